/** Tells how attempts go, after node/worker/reporter.ts. */
import type { Unit } from '../../node/worker/units.ts'
import type { Attempt } from '../../protocols/ids.ts'
import type { Report, Verdict } from '../../protocols/leases.ts'
import type { Failpoints } from './failpoints.ts'
import type { Connection } from './network.ts'
import type { Process } from './world.ts'

const retryMs = 1000

type Note = { kind: 'started'; attempts: (Attempt & { startTime: number })[] } | { kind: 'uploading'; attempts: Attempt[] }

export interface ReporterParts {
  verdict(unit: Unit, verdict: Verdict): void
  call(connection: Connection, body: Report[], answer: (value: { verdicts: Verdict[] } | undefined) => void): void
  note(connection: Connection, note: Note): void
}

export class SimReporter {
  readonly #process: Process
  readonly #failpoints: Failpoints
  readonly #parts: ReporterParts
  #connection: Connection | undefined
  readonly #reports = new Set<Unit>()
  readonly #started = new Set<Unit>()
  readonly #uploading = new Set<Unit>()
  #underWay = 0
  #scheduled = false

  constructor(process: Process, failpoints: Failpoints, parts: ReporterParts) {
    this.#process = process
    this.#failpoints = failpoints
    this.#parts = parts
  }

  /** An inventory is being made: it says all that waited to be noted. */
  inventoried(): void {
    this.#started.clear()
    this.#uploading.clear()
  }

  connect(connection: Connection): void {
    this.#connection = connection
    this.#underWay = 0
    this.#schedule()
  }

  disconnect(): void {
    this.#connection = undefined
    this.#scheduled = false
    this.#reports.clear()
  }

  started(unit: Unit): void {
    this.#started.add(unit)
    this.#schedule()
  }

  uploading(unit: Unit): void {
    this.#uploading.add(unit)
    this.#schedule()
  }

  finished(unit: Unit): void {
    this.#failpoints.pass('worker.outcome.kept')
    if (this.#connection === undefined) return
    this.#reports.add(unit)
    this.#schedule()
  }

  forget(unit: Unit): void {
    this.#reports.delete(unit)
    this.#started.delete(unit)
    this.#uploading.delete(unit)
  }

  #schedule(): void {
    const connection = this.#connection
    if (this.#scheduled || connection === undefined) return
    this.#scheduled = true
    this.#process.later(0, () => {
      if (this.#connection !== connection) return
      this.#scheduled = false
      this.#flush(connection)
    })
  }

  #flush(connection: Connection): void {
    const started = [...this.#started].filter((unit) => unit.phase === 'running' && unit.startTime !== undefined)
    const uploading = [...this.#uploading].filter((unit) => unit.phase === 'uploading')
    this.inventoried()
    if (started.length > 0)
      this.#parts.note(connection, {
        kind: 'started',
        attempts: started.map(({ attempt, startTime }) => ({ ...attempt, startTime: startTime! })),
      })
    if (uploading.length > 0) this.#parts.note(connection, { kind: 'uploading', attempts: uploading.map(({ attempt }) => attempt) })
    if (this.#reports.size === 0 || this.#underWay >= 2) return
    const batch = [...this.#reports]
    this.#reports.clear()
    this.#underWay += 1
    const reports = batch.map((unit) => ({ attempt: unit.attempt, outcome: unit.outcome! }))
    this.#parts.call(connection, reports, (answer) => {
      if (answer !== undefined) this.#failpoints.pass('worker.report.answered')
      for (const [index, unit] of batch.entries()) if (answer !== undefined) this.#parts.verdict(unit, answer.verdicts[index]!)
      if (answer !== undefined) this.#failpoints.pass('worker.report.noted')
      if (this.#connection !== connection) return
      this.#underWay -= 1
      if (answer !== undefined) return this.#schedule()
      this.#process.later(retryMs, () => {
        if (this.#connection !== connection) return
        for (const unit of batch) this.#reports.add(unit)
        this.#schedule()
      })
    })
    this.#failpoints.pass('worker.report.sent')
  }
}
