/** A worker among fakes of all that it speaks with; {@link useHarness} makes one for each test. */
import { afterEach, beforeEach, vi } from 'vitest'
import type { Finished, Journal, Remembered } from '../../../node/journal.ts'
import type { Worker } from '../../../node/worker/contract.ts'
import { createWorker } from '../../../node/worker.ts'
import { attemptKey } from '../../../protocols/ids.ts'
import type { Reservation } from '../../../protocols/pools.ts'
import { coordinatorPeer, FakeCoordinator } from './fake-coordinator.ts'
import { FakeDirectories, FakeExecutor, FakeStaging, FakeThreads, noGangs, silentLog, until } from './fake-parts.ts'

export const lent = { cores: 2, memoryMiB: 4096, gpus: 0 }

/** A disk that survives the worker. */
export class FakeJournal implements Journal {
  readonly broken = new Promise<never>(() => {})
  readonly disk = { ownerEpoch: 0, incarnation: 1, reservations: new Map<number, Reservation>(), finished: new Map<string, Finished>() }

  get remembered(): Remembered {
    const { ownerEpoch, incarnation, reservations, finished } = this.disk
    return { ownerEpoch, incarnation, reservations: [...reservations.values()], finished: [...finished.values()] }
  }
  async obeyed(ownerEpoch: number): Promise<void> {
    this.disk.ownerEpoch = ownerEpoch
  }
  async reserve(reservation: Reservation): Promise<void> {
    this.disk.reservations.set(reservation.reservationId, reservation)
  }
  async release(reservationId: number): Promise<void> {
    this.disk.reservations.delete(reservationId)
  }
  async finished(item: Finished): Promise<void> {
    this.disk.finished.set(attemptKey(item.attempt), item)
  }
  acknowledged(attempt: { jobUid: number; task: string; epoch: number }): void {
    this.disk.finished.delete(attemptKey(attempt))
  }
  async close(): Promise<void> {}
}

export class Harness {
  readonly coordinator = new FakeCoordinator()
  readonly executor = new FakeExecutor()
  readonly threads = new FakeThreads()
  readonly staging = new FakeStaging()
  readonly directories = new FakeDirectories()
  readonly journal = new FakeJournal()
  worker: Worker = this.newWorker()

  newWorker(options: { now?: () => number } = {}): Worker {
    const { coordinator, executor, threads, staging, directories, journal } = this
    return createWorker({
      wire: coordinator.wire,
      meshId: 'mesh',
      coordinator: coordinatorPeer,
      capacity: lent,
      executor,
      threads,
      staging,
      directories,
      gangs: noGangs(),
      journal,
      log: silentLog,
      now: () => Date.now(),
      random: () => 0,
      ...options,
      machine: () => ({
        name: 'machine',
        class: 'dedicated',
        capacity: lent,
        diskFreeMiB: 1,
        labels: {},
        os: 'linux',
        arch: 'x64',
        version: '0',
        isolation: 'process-group',
        addresses: [],
        nodeRootDir: '/nowhere',
      }),
    })
  }

  async connected(): Promise<void> {
    this.worker.start()
    await until(() => this.worker.status().connected && this.coordinator.claims.length > 0)
  }

  /** Cuts the connection and waits for the next session. */
  async reconnected(): Promise<void> {
    const hellos = this.coordinator.hellos.length
    this.coordinator.cut()
    await until(() => this.coordinator.hellos.length > hellos && this.worker.status().connected)
  }

  /** The inventory of the last hello, as `task state`. */
  inventory(): string[] {
    return this.coordinator.hellos.at(-1)!.inventory.map((item) => `${item.attempt.task} ${item.state}`)
  }

  settled(): boolean {
    const { unreportedTasks, runningTasks } = this.worker.status()
    return unreportedTasks === 0 && runningTasks === 0
  }
}

/** A fresh harness for each test of the file, stopped after it. */
export function useHarness(): () => Harness {
  let harness: Harness
  beforeEach(() => {
    harness = new Harness()
  })
  afterEach(async () => {
    await harness.worker.stop()
    vi.useRealTimers()
  })
  return () => harness
}
