/** One turn of the coordinator: the state it works on, the time it happens at, and what it wants done. */
import type { ErrorCode } from '../protocols/errors.ts'
import type { Effect, ReplyTo } from './events.ts'
import { jobKey, type MachineRow, machineKey, nodeKey, poolKey } from './rows.ts'
import type { Job, Machine, Node, Pool, State } from './state.ts'

export interface Turn {
  readonly state: State
  readonly now: number
  readonly out: Effect[]
}

export function answer(turn: Turn, replyTo: ReplyTo, body: unknown): void {
  turn.out.push({ kind: 'answer', replyTo, body })
}

export function refuse(turn: Turn, replyTo: ReplyTo, code: ErrorCode, message: string): void {
  turn.out.push({ kind: 'refuse', replyTo, code, message })
}

export function log(turn: Turn, level: 'info' | 'warn', message: string, fields: Record<string, unknown>): void {
  turn.out.push({ kind: 'log', level, message, fields })
}

// Rows are copied when they are put: the state goes on changing while the batch is on its way to the disk.
export function putJob(turn: Turn, job: Job): void {
  turn.out.push({ kind: 'put', key: jobKey(job.uid), value: { ...job.row, excluded: [...job.row.excluded] } })
}

export function putPool(turn: Turn, pool: Pool): void {
  turn.out.push({ kind: 'put', key: poolKey(pool.id), value: { ...pool.row, resizeErrors: [...pool.row.resizeErrors] } })
}

export function putNode(turn: Turn, node: Node): void {
  turn.out.push({ kind: 'put', key: nodeKey(node.row.reservationId), value: { ...node.row } })
}

export function putMachine(turn: Turn, machine: Machine): void {
  const row: MachineRow = {
    description: machine.description,
    roles: [...machine.roles],
    incarnation: machine.incarnation,
    lastSeen: turn.now,
  }
  turn.out.push({ kind: 'put', key: machineKey(machine.peer), value: row })
}
