/** From the rows on disk to the coordinator's memory, at start. */
import { decode, encode } from '../protocols/codec.ts'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import { foldId, type PeerIdText } from '../protocols/ids.ts'
import { type TaskSpec, taskSpecSchema } from '../protocols/model/task.ts'
import { arraySpecBytes, readArrayRow } from './array-rows.ts'
import { makeArray } from './arrays.ts'
import { migrate } from './migrate.ts'
import {
  type RestoredTask,
  restoreCompleted,
  restoreDependencies,
  restoreJob,
  restoreMachine,
  restoreNode,
  restorePool,
  restoreTask,
  restoreTurn,
} from './restore.ts'
import {
  arrayPrefix,
  type JobRow,
  type MachineRow,
  type MeshRow,
  meshKey,
  type NodeRow,
  type PoolRow,
  type SpecRow,
  type StatusRow,
  specPrefix,
  statusKey,
  statusPrefix,
  storeFormat,
  taskOfKey,
} from './rows.ts'
import { type Job, newState, type State } from './state.ts'
import type { Store } from './store.ts'
import { placeOf, specAt } from './task-book.ts'

/** Tasks read at once: their status rows are fetched together. */
const chunk = 1000

export interface Booted {
  state: State
  /** Jobs whose deletion was under way when the process ended. */
  purge: JobRow[]
  /** What is new in the rows, when an older version wrote them. */
  migrated: readonly string[]
}

/** Reads everything and takes up a new owner epoch, which is on disk before this resolves. */
export async function boot(store: Store, self: PeerIdText, now: number): Promise<Booted> {
  const known = await store.get(meshKey)
  const last = known === undefined ? undefined : (decode(known) as MeshRow)
  const migrated = last === undefined ? undefined : migrate(last)
  if (last !== undefined && migrated === undefined) {
    throw new MeshError(
      'UnsupportedVersion',
      `The coordinator's database has format ${last.format}, this version of batchmesh knows format ${storeFormat}. Use the version that wrote it.`,
    )
  }
  const mesh: MeshRow = {
    format: storeFormat,
    nextJobUid: 1,
    nextReservationId: 1,
    ...migrated?.row,
    ownerEpoch: (last?.ownerEpoch ?? 0) + 1,
  }
  failpoint('coordinator.boot.opened')
  await store.write(new Map([[meshKey, encode(mesh)]]))
  failpoint('coordinator.boot.claimed')
  const state = newState(self, mesh, now)
  const rows = async <T>(prefix: string, take: (row: T, key: string) => void) => {
    for await (const [key, value] of store.scan({ gt: prefix, lt: `${prefix}\uffff` })) take(decode(value) as T, key)
  }
  await rows<MachineRow>('mach/', (row, key) => restoreMachine(state, key.slice('mach/'.length), row, now))
  await rows<PoolRow>('pool/', (row) => restorePool(state, row))
  await rows<NodeRow>('node/', (row) => restoreNode(state, row, now))
  const jobs: JobRow[] = []
  await rows<JobRow>('job/', (row) => jobs.push(row))
  const purge: JobRow[] = []
  for (const row of jobs) {
    if (row.state === 'deleting') purge.push(row)
    else {
      const job = restoreJob(state, row)
      await loadArrays(store, job)
      if (row.state !== 'completed') await loadTasks(store, state, job, now)
    }
  }
  return { state, purge, migrated: migrated?.taken.map(({ what }) => what) ?? [] }
}

/** Arrays as if nothing had happened to their tasks. Of a completed job only they are read. */
async function loadArrays(store: Store, job: Job): Promise<void> {
  const prefix = arrayPrefix(job.uid)
  for await (const [, value] of store.scan({ gt: prefix, lt: `${prefix}\uffff` })) {
    const { array, creationTime } = readArrayRow(value)
    makeArray(job, array, creationTime, arraySpecBytes(array))
  }
}

async function loadTasks(store: Store, state: State, job: Job, now: number): Promise<void> {
  /** What depends on others waits until all are known. */
  const dependent: TaskSpec[] = []
  const take = (task: RestoredTask) => {
    if (task.status?.state === 'completed') return restoreCompleted(job, foldId(task.spec.id), task.status)
    restoreTask(state, job, task, now)
    if (task.spec.dependsOn !== undefined) dependent.push(task.spec)
  }
  await loadOwnTasks(store, job, take)
  if (job.arrays.length > 0) await loadArrayTasks(store, job, take)
  for (const spec of dependent) restoreDependencies(job, spec, now)
  for (const array of job.arrays) restoreTurn(array, now)
}

async function loadOwnTasks(store: Store, job: Job, take: (task: RestoredTask) => void): Promise<void> {
  const prefix = specPrefix(job.uid)
  let batch: [string, Uint8Array][] = []
  const takeBatch = async () => {
    const statuses = await store.getMany(batch.map(([key]) => statusKey(job.uid, taskOfKey(key))))
    batch.forEach(([, value], i) => {
      const row = decode(value) as SpecRow
      const status = statuses[i] === undefined ? undefined : (decode(statuses[i]) as StatusRow)
      take({ spec: taskSpecSchema.parse(decode(row.spec)), specBytes: row.spec.length, status })
    })
    batch = []
  }
  for await (const entry of store.scan({ gt: prefix, lt: `${prefix}\uffff` })) {
    batch.push(entry)
    if (batch.length >= chunk) await takeBatch()
  }
  await takeBatch()
}

/** Of arrays only the tasks that something has happened to have a row. */
async function loadArrayTasks(store: Store, job: Job, take: (task: RestoredTask) => void): Promise<void> {
  const prefix = statusPrefix(job.uid)
  for await (const [key, value] of store.scan({ gt: prefix, lt: `${prefix}\uffff` })) {
    const id = taskOfKey(key)
    const place = placeOf(job, id)
    if (place === undefined) continue
    const status = decode(value) as StatusRow
    if (status.state === 'completed') restoreCompleted(job, id, status, place)
    else take({ spec: specAt(place), specBytes: place.array.specBytes, status, place })
  }
}
