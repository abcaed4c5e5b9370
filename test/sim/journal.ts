/** A worker's journal on a simulated disk: a crash loses what was not synced. */
import { type Attempt, attemptKey } from '../../protocols/ids.ts'
import type { Outcome } from '../../protocols/model/task.ts'
import type { Reservation } from '../../protocols/pools.ts'
import type { Process, World } from './world.ts'

interface Finished {
  attempt: Attempt
  nodeId: string
  outcome: Outcome
}

interface Write {
  write: () => void
  isOutcome: boolean
  then?: () => void
}

export class SimJournal {
  /** What is on the disk. */
  incarnation = 0
  ownerEpoch = 0
  readonly reservations = new Map<number, Reservation>()
  readonly finished = new Map<string, Finished>()
  readonly #world: World
  readonly #process: Process
  #pending: Write[] = []
  #syncing = false
  #beforeSync: (() => void) | undefined

  constructor(world: World, process: Process) {
    this.#world = world
    this.#process = process
  }

  /** A start of the worker: its incarnation is on the disk before it is said. */
  open(): void {
    this.incarnation += 1
    this.#pending = []
    this.#syncing = false
  }

  /** Called when the next outcome waits for its sync. */
  beforeSync(act: () => void): void {
    this.#beforeSync = act
  }

  crash(): void {
    if (this.#pending.some((entry) => entry.isOutcome)) this.#world.faults.lostOutcomes += 1
    this.#pending = []
  }

  keep(item: Finished): void {
    this.#write({ write: () => this.finished.set(attemptKey(item.attempt), item), isOutcome: true })
  }

  acknowledge(attempt: Attempt): void {
    this.#write({ write: () => this.finished.delete(attemptKey(attempt)), isOutcome: false })
  }

  reserve(reservation: Reservation, then: () => void): void {
    this.#write({ write: () => this.reservations.set(reservation.reservationId, reservation), isOutcome: false, then })
  }

  release(reservationId: number): void {
    this.#write({ write: () => this.reservations.delete(reservationId), isOutcome: false })
  }

  obeyed(ownerEpoch: number): void {
    this.#write({
      write: () => {
        this.ownerEpoch = ownerEpoch
      },
      isOutcome: false,
    })
  }

  #write(entry: Write): void {
    this.#pending.push(entry)
    if (entry.isOutcome && this.#beforeSync !== undefined) {
      this.#process.later(0, this.#beforeSync)
      this.#beforeSync = undefined
    }
    if (this.#syncing) return
    this.#syncing = true
    this.#process.later(this.#world.between(1, 10), () => {
      this.#syncing = false
      const entries = this.#pending
      this.#pending = []
      for (const { write } of entries) write()
      for (const { then } of entries) then?.()
    })
  }
}
