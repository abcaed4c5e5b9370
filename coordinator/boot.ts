/** From the rows on disk to the coordinator's memory, at start. */
import { decode, encode } from '../protocols/codec.ts'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { arraySpecBytes, readArrayRow } from './array-rows.ts'
import { makeArray } from './arrays.ts'
import { newState } from './make-state.ts'
import { migrate } from './migrate.ts'
import { makeRolls } from './migrate-rolls.ts'
import { JobRestore, restoreJob, restoreMachine, restoreNode, restorePool } from './restore.ts'
import { chanceWords } from './roll.ts'
import {
  arrayPrefix,
  type JobRow,
  type MachineRow,
  type MeshRow,
  meshKey,
  type NodeRow,
  type PoolRow,
  type RollRow,
  rollPrefix,
  type SpecRow,
  type StatusRow,
  specKey,
  statusPrefix,
  storeFormat,
  taskOfKey,
} from './rows.ts'
import type { Job, State } from './state.ts'
import type { Range, Store } from './store.ts'
import { readPages } from './subtask-rows.ts'

/** Specs read at once. */
const chunk = 1000

export interface Booted {
  state: State
  /** Jobs whose deletion was under way when the process ended. */
  purge: JobRow[]
  /** What is new in the rows, when an older version wrote them. */
  migrated: readonly string[]
}

/**
 * Reads everything and takes up a new owner epoch, which is on disk before this resolves. `isNewMesh`: an empty store is as
 * it should be. One of a mesh that has been there before was lost or moved away: all numbers then begin above any that it can
 * have given, for machines know them (L2, R1): the seconds since 1970, of which no mesh has used one each.
 */
export async function boot(store: Store, self: PeerIdText, now: number, isNewMesh = true): Promise<Booted> {
  const known = await store.get(meshKey)
  const last = known === undefined ? undefined : (decode(known) as MeshRow)
  const migrated = last === undefined ? undefined : migrate(last)
  if (last !== undefined && migrated === undefined) {
    throw new MeshError(
      'UnsupportedVersion',
      `The coordinator's database has format ${last.format}, this version of batchmesh knows format ${storeFormat}. Use the version that wrote it.`,
    )
  }
  const start = isNewMesh ? 1 : Math.floor(now / 1000)
  const mesh: MeshRow = {
    format: storeFormat,
    nextJobUid: start,
    nextReservationId: start,
    ...migrated?.row,
    ownerEpoch: last === undefined ? start : last.ownerEpoch + 1,
  }
  failpoint('coordinator.boot.opened')
  const chance = crypto.getRandomValues(new Uint32Array(chanceWords))
  if (migrated?.taken.some((step) => step.makes === 'rolls')) await makeRolls(store, self, mesh, chance)
  await store.write(new Map([[meshKey, encode(mesh)]]))
  failpoint('coordinator.boot.claimed')
  const state = newState(self, mesh, now, chance)
  const rows = async <T>(prefix: string, take: (row: T, key: string) => void) => {
    for await (const [key, value] of store.scan(under(prefix))) take(decode(value) as T, key)
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
  for await (const [, value] of store.scan(under(arrayPrefix(job.uid)))) {
    const { array, ...from } = readArrayRow(value)
    makeArray(job, array, { ...from, specBytes: arraySpecBytes(array) })
  }
}

async function loadTasks(store: Store, state: State, job: Job, now: number): Promise<void> {
  const restore = new JobRestore(state, job, now)
  for await (const [, value] of store.scan(under(rollPrefix(job.uid)))) restore.addRoll(decode(value) as RollRow)
  for await (const [key, value] of store.scan(under(statusPrefix(job.uid)))) restore.addStatus(taskOfKey(key), decode(value) as StatusRow)
  for (const { id, keys } of restore.gangs()) restore.addSubtasks(id, await readPages(store, keys))
  const wanted = restore.wanted()
  const dependent: TaskSpec[] = []
  for (let at = 0; at < wanted.length; at += chunk) {
    const rows = await store.getMany(wanted.slice(at, at + chunk).map((id) => specKey(job.uid, id)))
    for (const row of rows) if (row !== undefined) dependent.push(decode((decode(row) as SpecRow).spec) as TaskSpec)
  }
  restore.finish(dependent)
}

function under(prefix: string): Range {
  return { gt: prefix, lt: `${prefix}\uffff` }
}
