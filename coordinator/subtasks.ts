/**
 * Subtasks: the members of a multi-instance task but the primary, as Azure Batch lists them. While the attempt stands they
 * are parts of its lease, in memory, as what is known of the primary is. Rows of their own, a page of members each, hold what must
 * outlast that: a page is written when one of its members has ended by itself, before that is acknowledged (L5), and all of
 * them once, when the attempt ends. What began stands in no row until then: a machine says it again in its inventory.
 * So a gang of 500 writes its members twice in its life, and 5 KB for one that ends early; the next attempt writes over it.
 */
import { foldId, type JobUid } from '../protocols/ids.ts'
import type { SubtaskView } from '../protocols/model/subtask.ts'
import type { FailureInfo, Outcome } from '../protocols/model/task.ts'
import { type SubtaskPart, type SubtasksRow, subtasksKey } from './rows.ts'
import type { Job, Lease } from './state.ts'
import type { Turn } from './turn.ts'

/** Members on one page. */
const pageSize = 64

/** Whether a member's own part has ended well while the attempt goes on: its machine need not have it any more. */
export function hasEnded(lease: Lease, member: number): boolean {
  return lease.parts.get(member)?.endTime !== undefined
}

export function partStarted(lease: Lease, member: number, startTime: number): void {
  if (!hasEnded(lease, member)) lease.parts.set(member, { startTime })
}

/** A member's own part has ended, well or not. */
export function partEnded(turn: Turn, lease: Lease, member: number, { startTime, endTime, exitCode, failureInfo }: Outcome): void {
  lease.parts.set(member, { startTime, endTime, exitCode, failureInfo })
  putPage(turn, lease, Math.floor(member / pageSize))
}

/** The attempt has ended, and with it every member that still ran. */
export function partsEnded(turn: Turn, lease: Lease): void {
  const { members, parts } = lease
  for (let member = 1; member < members.length; member += 1)
    if (!hasEnded(lease, member)) parts.set(member, { ...parts.get(member), endTime: turn.now })
  for (let page = 0; page * pageSize < members.length && members.length > 1; page += 1) putPage(turn, lease, page)
}

function putPage(turn: Turn, lease: Lease, page: number): void {
  const { task, epoch } = lease
  const first = page * pageSize
  const row: SubtasksRow = { epoch, first, members: membersOf(lease, first, first + pageSize) }
  turn.out.push({ kind: 'put', key: subtasksKey(task.job.uid, task.id, page), value: row })
}

/** The keys of all pages of a task, in their order. */
export function pageKeys(uid: JobUid, task: string, members: number): string[] {
  return Array.from({ length: Math.ceil(members / pageSize) }, (_, page) => subtasksKey(uid, task, page))
}

/** The members from `from` to before `end`; the primary, member 0, stands on its page too, so that places are numbers. */
function membersOf({ members, parts }: Lease, from: number, end: number): SubtasksRow['members'] {
  return members.slice(from, end).map(({ machine, node }, at) => ({
    machine: machine.peer,
    machineName: machine.description.name,
    nodeId: node.row.nodeId,
    ...parts.get(from + at),
  }))
}

/** The members whose own part has ended while the attempt goes on, from its pages. */
export function endedParts(pages: readonly SubtasksRow[], epoch: number): Map<number, SubtaskPart> {
  const parts = new Map<number, SubtaskPart>()
  for (const page of pages) {
    if (page.epoch !== epoch) continue
    for (const [at, { startTime, endTime, exitCode, failureInfo }] of page.members.entries())
      if (endTime !== undefined) parts.set(page.first + at, { startTime, endTime, exitCode, failureInfo })
  }
  return parts
}

/** All members of an attempt, the primary first. */
export interface Members {
  epoch: number
  members: SubtasksRow['members']
}

export function membersOfLease(lease: Lease): Members {
  return { epoch: lease.epoch, members: membersOf(lease, 0, lease.members.length) }
}

/** Undefined where no attempt has ended. */
export function membersOfPages(pages: readonly SubtasksRow[]): Members | undefined {
  return pages[0] === undefined ? undefined : { epoch: pages[0].epoch, members: pages.flatMap((page) => page.members) }
}

export function viewSubtasks(job: Job, taskId: string, { epoch, members }: Members): SubtaskView[] {
  return members.slice(1).map((member, at) => viewSubtask(job, { taskId, epoch, id: at + 1 }, member))
}

function viewSubtask(
  job: Job,
  { taskId, epoch, id }: { taskId: string; epoch: number; id: number },
  { machine, machineName, nodeId, startTime, endTime, exitCode, failureInfo }: SubtasksRow['members'][number],
): SubtaskView {
  return {
    id,
    nodeInfo: { poolId: job.row.spec.poolId, nodeId, machine, machineName, taskRootDirectory: rootDirectory(job, taskId, epoch, id) },
    state: endTime !== undefined ? 'completed' : startTime !== undefined ? 'running' : 'preparing',
    startTime,
    endTime,
    exitCode,
    result: resultOf(exitCode, failureInfo),
    failureInfo,
  }
}

/** Of one that was ended with the primary there is none. */
function resultOf(exitCode: number | undefined, failureInfo: FailureInfo | undefined): SubtaskView['result'] {
  if (failureInfo !== undefined) return 'failure'
  return exitCode === undefined ? undefined : exitCode === 0 ? 'success' : 'failure'
}

/** Where an attempt lies on its machine, as the machine lays it out (node/directories.ts). */
export function rootDirectory(job: Job, taskId: string, epoch: number, member = 0): string {
  const attempt = `${foldId(taskId)}${epoch > 1 ? `.${epoch}` : ''}${member === 0 ? '' : `+${member}`}`
  return `workitems/${job.row.spec.id}/job-${job.uid}/${attempt}`
}
