/** The coordinator's disk as a map: what a turn writes goes in encoded, and a restart reads it back. */
import { idsOf, positionOf, shapeOf, shapesOfId } from '../../coordinator/array-ids.ts'
import { arraySpecBytes, readArrayRow } from '../../coordinator/array-rows.ts'
import { makeArray } from '../../coordinator/arrays.ts'
import type { Effect } from '../../coordinator/events.ts'
import { newState } from '../../coordinator/make-state.ts'
import { JobRestore, restoreJob, restoreMachine, restoreNode, restorePool } from '../../coordinator/restore.ts'
import { chanceWords } from '../../coordinator/roll.ts'
import {
  arrayKey,
  arrayPrefix,
  type JobRow,
  jobKey,
  type MachineRow,
  type MeshRow,
  meshKey,
  type NodeRow,
  type PoolRow,
  type RollRow,
  rollPrefix,
  type SpecRow,
  type StatusRow,
  type SubtasksRow,
  specKey,
  statusKey,
  statusPrefix,
  storeFormat,
  taskOfKey,
  taskPrefixes,
} from '../../coordinator/rows.ts'
import type { Job, State } from '../../coordinator/state.ts'
import { decode, encode } from '../../protocols/codec.ts'
import type { JobUid } from '../../protocols/ids.ts'
import { type TaskSpec, taskSpecSchema } from '../../protocols/model/task.ts'
import { arrayTask } from '../../protocols/model/task-array.ts'

export type Rows = Map<string, Uint8Array>

/** The same in each run. */
export const fixedChance = Uint32Array.from(
  { length: chanceWords },
  (_, n) => Math.imul(n + 1, 0x9e3779b1) ^ (Math.imul(n + 7, 0x85ebca6b) >>> 7),
)

export function newMesh(): MeshRow {
  return { format: storeFormat, ownerEpoch: 1, nextJobUid: 1, nextReservationId: 1 }
}

/** Rows of a batch, in their order: undefined deletes. */
export type Batch = Map<string, Uint8Array | undefined>

export function gather(batch: Batch, effects: readonly Effect[]): void {
  for (const effect of effects) {
    if (effect.kind === 'put') batch.set(effect.key, encode(effect.value))
    else if (effect.kind === 'del') batch.set(effect.key, undefined)
  }
}

export function apply(rows: Rows, batch: Batch): void {
  for (const [key, value] of batch) {
    if (value === undefined) rows.delete(key)
    else rows.set(key, value)
  }
}

export function purgeRows(rows: Rows, uid: JobUid): void {
  const prefixes = taskPrefixes(uid)
  for (const key of [...rows.keys()]) if (prefixes.some((prefix) => key.startsWith(prefix))) rows.delete(key)
  rows.delete(jobKey(uid))
}

export function readRow<T>(rows: Rows, key: string): T | undefined {
  const value = rows.get(key)
  return value === undefined ? undefined : (decode(value) as T)
}

export function readStatus(rows: Rows, uid: JobUid, task: string): StatusRow | undefined {
  return readRow<StatusRow>(rows, statusKey(uid, task))
}

function readSpec(bytes: Uint8Array): TaskSpec {
  return taskSpecSchema.parse(decode((decode(bytes) as SpecRow).spec))
}

/** The spec of a task, from its row or its array's. */
export function readTaskSpec(rows: Rows, uid: JobUid, task: string): TaskSpec | undefined {
  const own = rows.get(specKey(uid, task))
  if (own !== undefined) return readSpec(own)
  for (let number = 0; ; number += 1) {
    const row = rows.get(arrayKey(uid, number))
    if (row === undefined) return undefined
    const { array } = readArrayRow(row)
    const ids = idsOf(array)
    for (const { shape, index } of shapesOfId(task))
      if (shape === shapeOf(ids) && positionOf(ids, index) !== undefined) return arrayTask(array, index)
  }
}

/** The memory that a start of the coordinator makes of its rows. The new owner epoch is written, as the real one does. */
export function restoreFrom(rows: Rows, self: string, now: number): State {
  const last = readRow<MeshRow>(rows, meshKey) ?? { ...newMesh(), ownerEpoch: 0 }
  const mesh: MeshRow = { ...last, ownerEpoch: last.ownerEpoch + 1 }
  rows.set(meshKey, encode(mesh))
  const state = newState(self, mesh, now, fixedChance)
  const keys = [...rows.keys()].sort()
  const all = <T>(prefix: string) => keys.filter((key) => key.startsWith(prefix)).map((key) => ({ key, row: decode(rows.get(key)!) as T }))
  for (const { key, row } of all<MachineRow>('mach/')) restoreMachine(state, key.slice('mach/'.length), row, now)
  for (const { row } of all<PoolRow>('pool/')) restorePool(state, row)
  for (const { row } of all<NodeRow>('node/')) restoreNode(state, row, now)
  for (const { row } of all<JobRow>('job/')) {
    if (row.state === 'deleting') purgeRows(rows, row.uid)
    else {
      const job = restoreJob(state, row)
      restoreArrays(rows, job)
      if (row.state !== 'completed') restoreTasks(rows, state, job, now)
    }
  }
  return state
}

function restoreArrays(rows: Rows, job: Job): void {
  for (const key of [...rows.keys()].filter((text) => text.startsWith(arrayPrefix(job.uid))).sort()) {
    const { array, ...from } = readArrayRow(rows.get(key)!)
    makeArray(job, array, { ...from, specBytes: arraySpecBytes(array) })
  }
}

function restoreTasks(rows: Rows, state: State, job: Job, now: number): void {
  const restore = new JobRestore(state, job, now)
  const under = (prefix: string) => [...rows.keys()].filter((text) => text.startsWith(prefix)).sort()
  for (const key of under(rollPrefix(job.uid))) restore.addRoll(decode(rows.get(key)!) as RollRow)
  for (const key of under(statusPrefix(job.uid))) restore.addStatus(taskOfKey(key), decode(rows.get(key)!) as StatusRow)
  for (const { id, keys } of restore.gangs())
    restore.addSubtasks(
      id,
      keys.flatMap((key) => readRow<SubtasksRow>(rows, key) ?? []),
    )
  restore.finish(restore.wanted().map((id) => readSpec(rows.get(specKey(job.uid, id))!)))
}
