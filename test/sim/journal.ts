/**
 * A worker's journal, after node/journal.ts: rows are gathered and go down together, and a batch is synced only if somebody
 * must be able to rely on it. On a disk where a crash loses what was not synced.
 */
import { decode, encode } from '../../protocols/codec.ts'
import { type Attempt, attemptKey } from '../../protocols/ids.ts'
import type { Outcome } from '../../protocols/model/task.ts'
import type { Reservation } from '../../protocols/pools.ts'
import { type Batch, CrashDisk } from '../support/stores/crash-disk.ts'
import type { Failpoints } from './failpoints.ts'
import type { Process, World } from './world.ts'

interface Finished {
  attempt: Attempt
  nodeId: string
  outcome: Outcome
}

export class SimJournal {
  readonly #disk = new CrashDisk()
  readonly #world: World
  readonly #process: Process
  readonly #failpoints: Failpoints
  #next = new Map<string, Uint8Array | undefined>()
  #sync = false
  #then: (() => void)[] = []
  #underWay = false

  constructor(world: World, process: Process, failpoints: Failpoints) {
    this.#world = world
    this.#process = process
    this.#failpoints = failpoints
  }

  get incarnation(): number {
    return (this.#read('incarnation') as number | undefined) ?? 0
  }

  get ownerEpoch(): number {
    return (this.#read('ownerEpoch') as number | undefined) ?? 0
  }

  get reservations(): Reservation[] {
    return this.#all('reservation/') as Reservation[]
  }

  get finished(): Finished[] {
    return this.#all('finished/') as Finished[]
  }

  #read(key: string): unknown {
    const value = this.#disk.get(key)
    return value === undefined ? undefined : decode(value)
  }

  #all(prefix: string): unknown[] {
    const keys = this.#disk.keys().filter((key) => key.startsWith(prefix))
    return keys.map((key) => this.#read(key))
  }

  /** A start of the worker: its number is on the disk before it is said. */
  open(): void {
    this.#disk.write(new Map([['incarnation', encode(this.incarnation + 1)]]))
    this.#disk.sync()
    this.#next = new Map()
    this.#sync = false
    this.#then = []
    this.#underWay = false
    this.#failpoints.pass('journal.start.counted')
  }

  crash(): void {
    const lost: Batch[] = [...this.#disk.crash(this.#world.random()), this.#next]
    const isOutcome = ([key, value]: [string, unknown]) => key.startsWith('finished/') && value !== undefined
    if (lost.some((batch) => [...batch].some(isOutcome))) this.#world.faults.lostOutcomes += 1
  }

  keep(item: Finished): void {
    this.#failpoints.pass('journal.outcome.given')
    this.#write(`finished/${attemptKey(item.attempt)}`, item)
  }

  /** Not synced: after a crash the outcome is reported once more (L4). */
  acknowledge(attempt: Attempt): void {
    this.#next.set(`finished/${attemptKey(attempt)}`, undefined)
    this.#flushLater()
  }

  reserve(reservation: Reservation, then: () => void): void {
    this.#failpoints.pass('worker.node.reserved')
    this.#write(`reservation/${reservation.reservationId}`, reservation, () => {
      this.#failpoints.pass('worker.node.written')
      then()
    })
  }

  release(reservationId: number): void {
    this.#failpoints.pass('worker.node.released')
    this.#write(`reservation/${reservationId}`, undefined)
  }

  obeyed(ownerEpoch: number): void {
    this.#failpoints.pass('journal.epoch.given')
    this.#write('ownerEpoch', ownerEpoch, () => this.#failpoints.pass('journal.epoch.written'))
  }

  #write(key: string, value: unknown, then?: () => void): void {
    this.#next.set(key, value === undefined ? undefined : encode(value))
    this.#sync = true
    if (then !== undefined) this.#then.push(then)
    this.#flushLater()
  }

  #flushLater(): void {
    if (this.#underWay) return
    this.#underWay = true
    this.#process.later(this.#world.between(1, 5), () => {
      this.#failpoints.pass('journal.batch.writing')
      this.#disk.write(this.#next)
      const sync = this.#sync
      const then = this.#then
      this.#next = new Map()
      this.#sync = false
      this.#then = []
      this.#process.later(sync ? this.#world.between(1, 5) : 0, () => {
        if (sync) this.#disk.sync()
        this.#underWay = false
        if (this.#next.size > 0) this.#flushLater()
        this.#failpoints.pass('journal.batch.synced')
        for (const act of then) act()
      })
    })
  }
}
