/**
 * Tells the coordinator how attempts go: reports, and the notes `started` and `uploading`. What one turn of the loop
 * brings goes together; while reports are under way the next ones gather, so that their number follows the
 * coordinator's fsyncs and not the tasks.
 */
import { failpoint } from '../../protocols/failpoint.ts'
import type { Attempt } from '../../protocols/ids.ts'
import { type leasesProtocol, maxReports, type Report, type Verdict } from '../../protocols/leases.ts'
import type { Session } from '../../protocols/rpc.ts'
import type { Log } from '../ports.ts'
import { outcomeSizeBytes } from './outcome-size.ts'
import type { Unit } from './units.ts'

export type LeaseSession = Session<typeof leasesProtocol.server, typeof leasesProtocol.client>

/** One is being synced by the coordinator while the next is on its way. */
const maxUnderWay = 2
/**
 * A busy worker gathers this long before it speaks again, so that messages follow time and not tasks: what it spends on
 * writing is then shared by some ten no-op tasks. After a pause it speaks at once.
 */
const gatherMs = 5
/** As long as tasks wait here to be started no job is at its end, and nobody waits for a single report: longer. */
const busyGatherMs = 20
/** A report that was not taken is sent again after this: the coordinator was busy, or slow. */
const retryMs = 1000
/** Attempts in one note: the protocol's bound. */
const maxNoted = 4096
/** Outcomes of one request, unless it is a single one: keeps the frame far below the protocol's limit. */
const maxBatchBytes = 8 << 20

export interface ReporterParts {
  log: Log
  /** Whether tasks wait here to be started. */
  isBusy(): boolean
  verdict(unit: Unit, verdict: Verdict): void
}

export class Reporter {
  readonly #parts: ReporterParts
  #session: LeaseSession | undefined
  readonly #reports = new Set<Unit>()
  #started = new Set<Unit>()
  #uploading = new Set<Unit>()
  #underWay = 0
  /** When the next flush is due, in ms of the process's clock; undefined: none is. */
  #due: number | undefined
  #timer: NodeJS.Timeout | undefined
  #lastFlush = Number.NEGATIVE_INFINITY
  #retry: NodeJS.Timeout | undefined

  constructor(parts: ReporterParts) {
    this.#parts = parts
  }

  /** An inventory is being made: it says all that waited to be noted. */
  inventoried(): void {
    this.#started.clear()
    this.#uploading.clear()
  }

  connect(session: LeaseSession): void {
    this.#session = session
    this.#underWay = 0
    this.#schedule()
  }

  /** Until the next {@link connect} all is gathered; the finished ones are to be given again then. */
  disconnect(): void {
    this.#session = undefined
    this.#reports.clear()
    this.#due = undefined
    clearTimeout(this.#timer)
    clearTimeout(this.#retry)
    this.#retry = undefined
  }

  started(unit: Unit): void {
    this.#started.add(unit)
    this.#schedule(gatherMs)
  }

  uploading(unit: Unit): void {
    this.#uploading.add(unit)
    this.#schedule(gatherMs)
  }

  finished(unit: Unit): void {
    failpoint('worker.outcome.kept')
    if (this.#session === undefined) return
    this.#reports.add(unit)
    this.#schedule()
  }

  forget(unit: Unit): void {
    this.#reports.delete(unit)
    this.#started.delete(unit)
    this.#uploading.delete(unit)
  }

  /** Flushes within `mostMs`, at once unless it has just been done. */
  #schedule(mostMs = 0): void {
    if (this.#session === undefined) return
    const now = performance.now()
    const due = Math.max(now + mostMs, this.#lastFlush + (this.#parts.isBusy() ? busyGatherMs : gatherMs))
    if (this.#due !== undefined && this.#due <= due) return
    this.#due = due
    clearTimeout(this.#timer)
    if (due > now) this.#timer = setTimeout(() => this.#flush(), due - now)
    else setImmediate(() => this.#flush())
  }

  #flush(): void {
    const session = this.#session
    this.#due = undefined
    clearTimeout(this.#timer)
    if (session === undefined) return
    this.#lastFlush = performance.now()
    this.#noteStarted(session)
    this.#noteUploading(session)
    while (this.#reports.size > 0 && this.#underWay < maxUnderWay && this.#retry === undefined) void this.#send(session, this.#nextBatch())
  }

  #noteStarted(session: LeaseSession): void {
    if (this.#started.size === 0) return
    // The report of one that has ended meanwhile says when it began.
    const running = [...this.#started].filter((unit) => unit.phase === 'running' && unit.startTime !== undefined)
    this.#started = new Set()
    for (let at = 0; at < running.length; at += maxNoted)
      session.note('started', {
        attempts: running.slice(at, at + maxNoted).map(({ attempt, startTime }) => ({ ...attempt, startTime: startTime! })),
      })
  }

  #noteUploading(session: LeaseSession): void {
    if (this.#uploading.size === 0) return
    const attempts: Attempt[] = []
    for (const { phase, attempt } of this.#uploading) if (phase === 'uploading') attempts.push(attempt)
    this.#uploading = new Set()
    for (let at = 0; at < attempts.length; at += maxNoted) session.note('uploading', { attempts: attempts.slice(at, at + maxNoted) })
  }

  #nextBatch(): Unit[] {
    const batch: Unit[] = []
    let bytes = 0
    for (const unit of this.#reports) {
      bytes += outcomeSizeBytes(unit.outcome!)
      if (batch.length >= maxReports || (bytes > maxBatchBytes && batch.length > 0)) break
      batch.push(unit)
    }
    for (const unit of batch) this.#reports.delete(unit)
    return batch
  }

  async #send(session: LeaseSession, batch: Unit[]): Promise<void> {
    this.#underWay += 1
    try {
      const reports: Report[] = batch.map((unit) => ({ attempt: unit.attempt, outcome: unit.outcome! }))
      const asked = session.call('report', { reports })
      failpoint('worker.report.sent')
      const { verdicts } = await asked
      failpoint('worker.report.answered')
      // Also when the session has ended meanwhile: what was taken was taken.
      for (const [index, unit] of batch.entries()) {
        const verdict = verdicts[index]
        if (verdict !== undefined) this.#parts.verdict(unit, verdict)
      }
      failpoint('worker.report.noted')
      if (verdicts.length < batch.length) this.#again(session, batch.slice(verdicts.length))
    } catch (error) {
      if (this.#session !== session) return
      this.#parts.log.warn({ err: error, reports: batch.length }, 'reports were not taken; they are sent again')
      this.#again(session, batch)
    } finally {
      if (this.#session === session) {
        this.#underWay -= 1
        this.#schedule()
      }
    }
  }

  #again(session: LeaseSession, batch: readonly Unit[]): void {
    if (this.#session !== session) return
    for (const unit of batch) this.#reports.add(unit)
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined
      this.#schedule()
    }, retryMs)
  }
}
