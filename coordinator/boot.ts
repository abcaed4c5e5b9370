/** From the rows on disk to the coordinator's memory, at start. */
import { decode, encode } from '../protocols/codec.ts'
import { MeshError } from '../protocols/errors.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import { type TaskSpec, taskSpecSchema } from '../protocols/model/task.ts'
import { restoreDependencies, restoreJob, restoreMachine, restoreNode, restorePool, restoreTask } from './restore.ts'
import {
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
  storeFormat,
  taskOfKey,
} from './rows.ts'
import { type Job, newState, type State } from './state.ts'
import type { Store } from './store.ts'

/** Tasks read at once: their status rows are fetched together. */
const chunk = 1000

export interface Booted {
  state: State
  /** Jobs whose deletion was under way when the process ended. */
  purge: JobRow[]
}

/** Reads everything and takes up a new owner epoch, which is on disk before this resolves. */
export async function boot(store: Store, self: PeerIdText, now: number): Promise<Booted> {
  const known = await store.get(meshKey)
  const last = known === undefined ? undefined : (decode(known) as MeshRow)
  if (last !== undefined && last.format !== storeFormat) {
    throw new MeshError(
      'UnsupportedVersion',
      `The coordinator's database has format ${last.format}, this version of batchmesh knows format ${storeFormat}. Use the version that wrote it.`,
    )
  }
  const mesh: MeshRow = { format: storeFormat, nextJobUid: 1, nextReservationId: 1, ...last, ownerEpoch: (last?.ownerEpoch ?? 0) + 1 }
  await store.write(new Map([[meshKey, encode(mesh)]]))
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
      if (row.state !== 'completed') await loadTasks(store, state, job, now)
    }
  }
  return { state, purge }
}

async function loadTasks(store: Store, state: State, job: Job, now: number): Promise<void> {
  const prefix = specPrefix(job.uid)
  const dependent: TaskSpec[] = []
  let batch: [string, Uint8Array][] = []
  const take = async () => {
    const statuses = await store.getMany(batch.map(([key]) => statusKey(job.uid, taskOfKey(key))))
    batch.forEach(([, value], i) => {
      const row = decode(value) as SpecRow
      const spec = taskSpecSchema.parse(decode(row.spec))
      const status = statuses[i] === undefined ? undefined : (decode(statuses[i]) as StatusRow)
      restoreTask(state, job, spec, row.spec.length, status, now)
      if (spec.dependsOn !== undefined && status?.state !== 'completed') dependent.push(spec)
    })
    batch = []
  }
  for await (const entry of store.scan({ gt: prefix, lt: `${prefix}\uffff` })) {
    batch.push(entry)
    if (batch.length >= chunk) await take()
  }
  await take()
  for (const spec of dependent) restoreDependencies(job, spec, now)
}
