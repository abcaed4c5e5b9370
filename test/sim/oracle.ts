/** Watches the world from outside and knows the promises (DESIGN of leases and pools): throws a Violation when one is broken. */

import type { Effect, Event } from '../../coordinator/events.ts'
import { minWindowMs } from '../../coordinator/lease.ts'
import { jobKey, type StatusRow, taskPrefixes } from '../../coordinator/rows.ts'
import type { Lease, State } from '../../coordinator/state.ts'
import { lookUp } from '../../coordinator/task-book.ts'
import { decode } from '../../protocols/codec.ts'
import { type Attempt, attemptKey, type JobUid, taskKey } from '../../protocols/ids.ts'
import { heartbeatMs, type Report, type Verdict } from '../../protocols/leases.ts'
import { type Batch, type Rows, readRow, readStatus, readTaskSpec } from '../support/rows.ts'
import type { GangOracle } from './gang-oracle.ts'
import { Violation } from './world.ts'

function must(holds: boolean, what: () => string): void {
  if (!holds) throw new Violation(what())
}

/** A gap between ticks that shows that the coordinator itself was stopped. */
const stallMs = 5000

export class Oracle {
  readonly gangs: GangOracle
  /** Who was given an attempt. */
  readonly #granted = new Map<string, string>()
  readonly #newestEpoch = new Map<string, number>()
  /** What watchers have seen completed. */
  readonly #seen = new Map<string, { uid: JobUid; task: string; epoch: number; result: string | undefined }>()
  /** Tasks whose adding was answered. */
  readonly #added = new Map<string, { uid: JobUid; task: string }>()
  readonly #deleted = new Set<JobUid>()
  /** When the coordinator last read something of each machine, in this life. */
  readonly #heard = new Map<string, number>()
  #startedAt = 0
  #lastTick = 0
  #leases: Lease[] = []
  /** As rows of this life of the coordinator say, written or not. */
  readonly #retries = new Map<string, number>()

  constructor(gangs: GangOracle) {
    this.gangs = gangs
  }

  // --- the coordinator's time -----------------------------------------------------------------------------------

  started(now: number): void {
    this.#startedAt = now
    this.#lastTick = now
    this.#heard.clear()
    this.#retries.clear()
    this.gangs.started()
  }

  before(event: Event, state: State, now: number): void {
    if (
      'session' in event &&
      (event.kind === 'hello' || state.machines.get(event.peer)?.session === event.session) &&
      event.kind !== 'gone'
    )
      this.#heard.set(event.peer, now)
    if (event.kind !== 'tick') return
    if (now - this.#lastTick > stallMs) {
      this.#startedAt = now
      this.#heard.clear()
    }
    this.#lastTick = now
    this.#leases = [...state.machines.values()].flatMap((machine) => [...machine.leases.values()])
  }

  /** L3, L7: no lease ends for silence before its window, reckoned by the coordinator's clock from what it has read. */
  after(event: Event, now: number): void {
    if (event.kind !== 'tick') return
    for (const lease of this.#leases) {
      const { task } = lease
      if (task.lease === lease || typeof lookUp(task.job, task.id) === 'number' || task.job.row.state !== 'active') continue
      if (lease.startTime === undefined && !lease.restored && lease.members.length === 1) continue
      const least = Math.max(task.job.row.spec.disconnect.lostAfterMs ?? minWindowMs, 2 * heartbeatMs)
      const silentMs = Math.max(...lease.members.map(({ machine }) => now - (this.#heard.get(machine.peer) ?? this.#startedAt)))
      must(silentMs > least, () => `L3: ${task.job.uid}/${task.id}/${lease.epoch} was given up after ${silentMs} ms of silence`)
    }
  }

  /** C1: only a failure that was reported spends a retry. */
  steps(effects: readonly Effect[], disk: Rows): void {
    for (const effect of effects) {
      if (effect.kind !== 'put' || !effect.key.startsWith('stat/')) continue
      const next = effect.value as StatusRow
      const before = this.#retries.get(effect.key) ?? readRow<StatusRow>(disk, effect.key)?.retryCount ?? 0
      must(next.retryCount <= before || next.lastEnd === 'reported', () => `C1: ${effect.key} spent a retry without a report of a failure`)
      this.#retries.set(effect.key, next.retryCount)
    }
  }

  // --- the disk ---------------------------------------------------------------------------------------------------

  writes(batch: Batch, disk: Rows): void {
    this.gangs.writes(batch)
    for (const [key, value] of batch) {
      if (!key.startsWith('stat/') || value === undefined) continue
      const next = decode(value) as StatusRow
      const before = readRow<StatusRow>(disk, key)
      if (before === undefined) continue
      must(next.epoch >= before.epoch, () => `L2: ${key} went from epoch ${before.epoch} to ${next.epoch}`)
      if (before.state !== 'completed') continue
      const same = next.state === 'completed' && next.epoch === before.epoch && next.result === before.result
      must(
        same || (before.result === 'failure' && next.retryCount === 0),
        () => `L2: ${key} was completed (${before.result}) and is ${next.state} now`,
      )
    }
  }

  /** L5: what was shown and answered is there. */
  checkDisk(disk: Rows): void {
    this.gangs.checkDisk(disk)
    for (const { uid, task } of this.#added.values())
      must(this.#deleted.has(uid) || readTaskSpec(disk, uid, task) !== undefined, () => `L5: task ${uid}/${task} was accepted and is gone`)
    for (const { uid, task, epoch, result } of this.#seen.values()) {
      if (this.#deleted.has(uid)) continue
      const row = readStatus(disk, uid, task)
      const same = row?.state === 'completed' && row.epoch === epoch && row.result === result
      const again = result === 'failure' && row !== undefined && row.epoch >= epoch
      must(
        same || again,
        () => `L5: ${uid}/${task} was shown as completed (${result}, epoch ${epoch}) and is ${row?.state} at ${row?.epoch}`,
      )
    }
  }

  /** Once nothing is going on: every row of a task belongs to a job that is there. */
  checkLeftovers(disk: Rows): void {
    const kept = new Set<string>()
    for (const key of disk.keys()) if (key.startsWith('job/')) for (const prefix of taskPrefixes(Number(key.slice(4)))) kept.add(prefix)
    const known = taskPrefixes(1).map((prefix) => prefix.slice(0, prefix.indexOf('/') + 1))
    for (const key of disk.keys()) {
      if (!known.some((prefix) => key.startsWith(prefix))) continue
      must(
        [...kept].some((prefix) => key.startsWith(prefix)),
        () => `leftover: the row ${key} is of no job`,
      )
    }
  }

  crashed(disk: Rows): void {
    this.checkDisk(disk)
  }

  // --- what is said ----------------------------------------------------------------------------------------------

  performs(effects: readonly Effect[], disk: Rows): void {
    this.gangs.performs(effects, disk)
    for (const effect of effects) {
      if (effect.kind === 'purge') must(this.#deleted.has(effect.jobUid), () => `job ${effect.jobUid} is deleted, which nobody asked for`)
      if (effect.kind === 'changed' && effect.event?.state === 'completed') this.#shown(effect.jobUid, effect.event)
      if (effect.kind !== 'grants') continue
      for (const { attempt, gang } of effect.grants) this.#given(attempt, gang === undefined ? effect.peer : 'gang', disk)
    }
  }

  #given(attempt: Attempt, to: string, disk: Rows): void {
    const key = attemptKey(attempt)
    const task = taskKey(attempt.jobUid, attempt.task)
    const other = this.#granted.get(key)
    must(other === undefined || other === to, () => `L1: ${key} was given to ${other} and to ${to}`)
    if (other === undefined) {
      const newest = this.#newestEpoch.get(task) ?? 0
      must(
        attempt.epoch > newest || (attempt.member !== undefined && attempt.epoch === newest),
        () => `L2: ${key} was given after epoch ${newest}`,
      )
      this.#newestEpoch.set(task, attempt.epoch)
      this.#granted.set(key, to)
    }
    const row = readStatus(disk, attempt.jobUid, attempt.task)
    must((row?.epoch ?? 0) >= attempt.epoch || this.#deleted.has(attempt.jobUid), () => `L5: ${key} was given before it was on the disk`)
  }

  #shown(uid: JobUid, event: NonNullable<Extract<Effect, { kind: 'changed' }>['event']>): void {
    const task = event.taskId.toLowerCase()
    const key = taskKey(uid, task)
    const before = this.#seen.get(key)
    must(before?.result !== 'success', () => `L1: ${key} was shown as succeeded and completes again`)
    this.#seen.set(key, { uid, task, epoch: event.epoch, result: event.result })
  }

  /** The answers to reports, as they leave the coordinator. */
  verdicts(reports: readonly Report[], verdicts: readonly Verdict[] | undefined, disk: Rows): void {
    verdicts?.forEach((verdict, index) => {
      const { attempt, outcome } = reports[index]!
      const { jobUid, task, epoch } = attempt
      if (verdict !== 'accepted' || this.#deleted.has(jobUid) || !disk.has(jobKey(jobUid))) return
      const row = readStatus(disk, jobUid, task)
      must(
        row !== undefined && row.epoch >= epoch,
        () => `L5: a report of ${attemptKey(attempt)} was accepted, the disk has epoch ${row?.epoch}`,
      )
      const isGang = this.#granted.get(attemptKey(attempt)) === 'gang'
      if (outcome.exitCode !== 0 || isGang) return
      must(
        row!.state === 'completed' && row!.epoch === epoch && row!.result === 'success',
        () => `L2: success of ${attemptKey(attempt)} was accepted, but the task is ${row!.state} (${row!.result}) at epoch ${row!.epoch}`,
      )
    })
  }

  /** A submitter asks for the end of all that is known of a job. */
  deleting(uid: JobUid): void {
    this.#deleted.add(uid)
  }

  added(uid: JobUid, task: string): void {
    this.#added.set(taskKey(uid, task), { uid, task })
  }
}
