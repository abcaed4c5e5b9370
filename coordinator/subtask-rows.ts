/** Reading the members of a task's newest attempt: from its lease while that stands, then from their pages. */
import { decode } from '../protocols/codec.ts'
import { foldId } from '../protocols/ids.ts'
import type { SubtasksRow } from './rows.ts'
import type { Job } from './state.ts'
import type { Store } from './store.ts'
import { type Members, membersOfLease, membersOfPages, pageKeys } from './subtasks.ts'
import { liveTask } from './task-book.ts'
import type { TaskRows } from './task-rows.ts'

/** The pages that are there, in their order: all or, of an attempt that stands, those of members that ended. */
export async function readPages(store: Store, keys: readonly string[]): Promise<SubtasksRow[]> {
  const rows = await store.getMany([...keys])
  return rows.flatMap((row) => (row === undefined ? [] : [decode(row) as SubtasksRow]))
}

/** Undefined of a task that is no gang, or had no attempt yet. What the lease says may be ahead of the disk (L5). */
export async function readMembers(store: Store, job: Job, { spec, status }: TaskRows): Promise<Members | undefined> {
  const { numberOfInstances = 1 } = spec.multiInstanceSettings ?? {}
  if (numberOfInstances === 1 || status === undefined) return undefined
  const lease = liveTask(job, foldId(spec.id))?.lease
  if (lease?.epoch === status.epoch) return membersOfLease(lease)
  return membersOfPages(await readPages(store, pageKeys(job.uid, foldId(spec.id), numberOfInstances)))
}
