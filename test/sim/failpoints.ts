/** Failpoints of simulated processes, by the names of the real ones: the simulation's shells pass them where the real shells do. */
import type { FailpointName } from '../../protocols/failpoint.ts'

export const coordinatorFailpoints = [
  'coordinator.boot.claimed',
  'coordinator.batch.writing',
  'coordinator.batch.synced',
  'coordinator.effect.performed',
  'coordinator.batch.performed',
  'coordinator.purge.begun',
  'coordinator.purge.cleared',
] as const satisfies FailpointName[]

export const workerFailpoints = [
  'journal.start.counted',
  'journal.batch.writing',
  'journal.batch.synced',
  'journal.epoch.given',
  'journal.epoch.written',
  'journal.outcome.given',
  'worker.node.reserved',
  'worker.node.written',
  'worker.node.released',
  'worker.outcome.kept',
  'worker.report.sent',
  'worker.report.answered',
  'worker.report.noted',
] as const satisfies FailpointName[]

export type SimFailpoint = (typeof coordinatorFailpoints)[number] | (typeof workerFailpoints)[number]

/** Thrown where a process dies: nothing more of what it was doing is done. */
export class Died extends Error {}

export class Failpoints {
  #armed: { name: SimFailpoint; passings: number; act: () => boolean } | undefined

  /** Calls `act` at this place, after so many passings; it answers whether the process died there. A new one replaces one that was not reached. */
  arm(name: SimFailpoint, passings: number, act: () => boolean): void {
    this.#armed = { name, passings, act }
  }

  disarm(): void {
    this.#armed = undefined
  }

  pass(name: SimFailpoint): void {
    if (this.#armed?.name !== name) return
    this.#armed.passings -= 1
    if (this.#armed.passings > 0) return
    const { act } = this.#armed
    this.#armed = undefined
    if (act()) throw new Died(name)
  }
}
