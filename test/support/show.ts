/** Effects of the core as lines of text, for tests and stories. */
import type { Effect } from '../../coordinator/events.ts'
import {
  type JobRow,
  type MachineRow,
  type MeshRow,
  type NodeRow,
  type PoolRow,
  type RollRow,
  type StatusRow,
  type SubtasksRow,
  taskOfKey,
  uidOfKey,
} from '../../coordinator/rows.ts'
import type { Attempt } from '../../protocols/ids.ts'
import type { Welcome } from '../../protocols/leases.ts'
import { type Rows, readStatus } from './rows.ts'

export interface Names {
  nameOf(peer: string): string
  jobOf(uid: number): string
  readonly rows: Rows
}

export function showEffects(names: Names, effects: readonly Effect[]): string[] {
  return effects.filter((effect) => effect.kind !== 'log').map((effect) => show(names, effect))
}

function show(names: Names, effect: Effect): string {
  const attempt = ({ jobUid, task, epoch, member }: Attempt) =>
    `${names.jobOf(jobUid)}/${task}#${epoch}${member === undefined ? '' : `+${member}`}`
  const attempts = (list: readonly Attempt[]) => list.map(attempt).join(' ')
  switch (effect.kind) {
    case 'put':
      return `row ${showRow(names, effect.key, effect.value)}`
    case 'del':
      return `del ${effect.key.startsWith('mach/') ? `machine ${names.nameOf(effect.key.slice(5))}` : effect.key.replace(/\/0+/, '/')}`
    case 'purge':
      return `purge ${names.jobOf(effect.jobUid)}`
    case 'answer':
      return showAnswer(effect.body, attempts)
    case 'refuse':
      return `refuse ${effect.code}`
    case 'grants': {
      const grants = effect.grants.map(
        ({ attempt: named, gang }) => attempt(named) + (gang === undefined ? '' : ` of ${gang.members.length}`),
      )
      const held = effect.held.length === 0 ? '' : `, held ${effect.held.join(' ')}`
      return `${effect.replyTo === undefined ? 'tell' : 'grant'} ${names.nameOf(effect.peer)}: ${grants.join(' ') || 'nothing'}${held}`
    }
    case 'beat':
      return `beat ${names.nameOf(effect.peer)}`
    case 'stop':
      return `stop ${names.nameOf(effect.peer)}: ${attempts(effect.attempts)} (${effect.reason})`
    case 'forget':
      return `forget ${names.nameOf(effect.peer)}: ${effect.jobUids.map((uid) => names.jobOf(uid)).join(' ')}`
    case 'release':
      return `release ${names.nameOf(effect.peer)}: node ${effect.reservationId}`
    case 'reserve':
      return `reserve ${names.nameOf(effect.peer)}: node ${effect.reservation.reservationId} of ${effect.reservation.poolId}`
    case 'retract':
      return `retract ${names.nameOf(effect.peer)}: ${attempts(effect.attempts)}`
    case 'offer':
      return `offer ${effect.poolId}: ${effect.pending}`
    case 'changed': {
      const job = names.jobOf(effect.jobUid)
      const { event } = effect
      if (event === undefined) return `watch ${job}`
      return `watch ${job}/${event.taskId} ${event.state}${fields({ epoch: event.epoch, end: event.attemptEnd, exit: event.exitCode })}`
    }
    case 'log':
      return `log ${effect.message}`
  }
}

function showAnswer(body: unknown, attempts: (list: readonly Attempt[]) => string): string {
  const value = body as Record<string, unknown>
  if (Array.isArray(value.verdicts)) return `verdict ${value.verdicts.join(' ')}`
  if (Array.isArray(value.keep)) {
    const { keep, nodes } = body as Welcome
    return `welcome keep [${attempts(keep)}] nodes [${nodes.map((node) => node.nodeId).join(' ')}]`
  }
  if (Array.isArray(value.results)) {
    const results = value.results as { taskId: string; error?: { code: string } }[]
    return `answer ${results.map(({ taskId, error }) => `${taskId} ${error?.code ?? 'added'}`).join(', ')}`
  }
  return `answer ${Object.values(value).map(String).join(' ')}`.trimEnd()
}

function fields(values: Record<string, unknown>): string {
  return Object.entries(values)
    .filter(([, value]) => value !== undefined && value !== 0)
    .map(([name, value]) => ` ${name}=${String(value)}`)
    .join('')
}

function showRow(names: Names, key: string, value: unknown): string {
  const [kind] = key.split('/')
  switch (kind) {
    case 'mesh': {
      const row = value as MeshRow
      return `mesh nextJob=${row.nextJobUid} nextReservation=${row.nextReservationId}`
    }
    case 'pool': {
      const { spec, allocationState } = value as PoolRow
      return `pool ${spec.id} ${allocationState} ${spec.targetDedicatedNodes}+${spec.targetLowPriorityNodes}`
    }
    case 'mach':
      return `machine ${names.nameOf(key.slice(5))} incarnation=${(value as MachineRow).incarnation}`
    case 'node': {
      const row = value as NodeRow
      return `node ${row.reservationId} of ${row.poolId} on ${names.nameOf(row.machine)}${row.leaving ? ' leaving' : ''}`
    }
    case 'job': {
      const row = value as JobRow
      const excluded = row.excluded.map((entry) => names.nameOf(entry.machine)).join(' ')
      return `job ${row.spec.id} ${row.state}${fields({ reason: row.terminateReason, without: excluded || undefined })}`
    }
    case 'arry':
      return `array ${names.jobOf(uidOfKey(key))}/${Number(taskOfKey(key))}`
    case 'roll':
      return `roll ${names.jobOf(uidOfKey(key))} from ${Number(taskOfKey(key))}: ${(value as RollRow).ids}`
    case 'spec':
      return `spec ${names.jobOf(uidOfKey(key))}/${taskOfKey(key)}`
    case 'subt': {
      const { epoch, first, members } = value as SubtasksRow
      const parts = members.flatMap(({ endTime, exitCode }, at) =>
        endTime === undefined ? [] : `+${first + at}${fields({ exit: exitCode })}`,
      )
      return `members of ${names.jobOf(uidOfKey(key))}/${taskOfKey(key).split('/')[0]}#${epoch}: ended ${parts.join(', ')}`
    }
    default: {
      const row = value as StatusRow
      const on = row.lease?.map((member) => names.nameOf(member.machine)).join(' ')
      const { retryCount: retries, requeueCount: requeues, losses, lastEnd, result } = row
      const failure = row.outcome?.failureInfo?.code
      const text = fields({ epoch: row.epoch, on, retries, requeues, losses, lastEnd, result, failure })
      return `${names.jobOf(uidOfKey(key))}/${taskOfKey(key)} ${row.state}${text}`
    }
  }
}

/** The newest status row of a task as a line. */
export function showStatus(names: Names, uid: number, task: string): string {
  const row = readStatus(names.rows, uid, task)
  return row === undefined ? 'no row' : showRow(names, `stat/${String(uid).padStart(10, '0')}/${task}`, row)
}
