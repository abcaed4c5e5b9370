/** Submitters: each follows its script, and asks again what was not answered (every request is repeatable). */
import type { Effect, Event } from '../../coordinator/events.ts'
import type { JobRow } from '../../coordinator/rows.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { readStatus, readTaskSpec } from '../support/rows.ts'
import type { SimCoordinator } from './coordinator.ts'
import type { Oracle } from './oracle.ts'
import type { Request, Script } from './workload-parts.ts'
import { Violation, type World } from './world.ts'

const timeoutMs = 5000

type Answer = Extract<Effect, { kind: 'answer' | 'refuse' }>

/** Refusals that a repeated or late request may get. */
const expected = new Set([
  'PoolExists',
  'JobExists',
  'JobNotFound',
  'TaskExists',
  'JobCompleted',
  'TaskCompleted',
  'TaskNotCompleted',
  'TaskSucceeded',
])

export class Submitter {
  readonly #world: World
  readonly #coordinator: SimCoordinator
  readonly #oracle: Oracle
  readonly #script: Script
  #at = 0

  constructor(world: World, coordinator: SimCoordinator, oracle: Oracle, script: Script) {
    this.#world = world
    this.#coordinator = coordinator
    this.#oracle = oracle
    this.#script = script
    this.#next()
  }

  get isDone(): boolean {
    return this.#at >= this.#script.length
  }

  #next(): void {
    const step = this.#script[this.#at]
    if (step !== undefined) this.#world.after(step.waitMs, () => this.#ask(step.request))
  }

  #ask(request: Request): void {
    const at = this.#at
    let answered = false
    const event = this.#eventOf(request)
    if (event !== undefined)
      this.#coordinator.ask(event, (answer) => {
        if (answered || this.#at !== at) return
        answered = true
        this.#answered(request, answer)
        this.#at += 1
        this.#next()
      })
    else if (request.kind === 'reactivateTask') {
      // Not completed yet: it is not waited for.
      this.#at += 1
      return this.#next()
    }
    this.#world.after(timeoutMs, () => {
      if (!answered && this.#at === at) this.#ask(request)
    })
  }

  #answered(request: Request, answer: Answer): void {
    if (answer.kind === 'refuse') {
      if (!expected.has(answer.code)) throw new Violation(`${request.kind} was refused: ${answer.code}, ${answer.message}`)
      return
    }
    if (request.kind === 'addTaskArray') {
      const { firstTaskId, lastTaskId } = answer.body as { firstTaskId: string; lastTaskId: string }
      const uid = this.#uidOf(request.jobId)!
      for (const taskId of [firstTaskId, lastTaskId]) this.#oracle.added(uid, taskId.toLowerCase())
    }
    if (request.kind !== 'addTasks') return
    const uid = this.#uidOf(request.jobId)!
    const { results } = answer.body as { results: { taskId: string; error?: { code: string } }[] }
    for (const { taskId, error } of results) {
      if (error !== undefined && !expected.has(error.code)) throw new Violation(`task ${taskId} was refused: ${error.code}`)
      this.#oracle.added(uid, taskId.toLowerCase())
    }
  }

  #uidOf(jobId: string): number | undefined {
    for (const [key, value] of this.#coordinator.disk) {
      if (!key.startsWith('job/')) continue
      const row = decode(value) as JobRow
      if (row.spec.id === jobId && row.state !== 'deleting') return row.uid
    }
    return undefined
  }

  #eventOf(request: Request): ((replyTo: number) => Event) | undefined {
    switch (request.kind) {
      case 'addTasks':
        return (replyTo) => ({ ...request, replyTo, encoded: request.tasks.map((task) => encode(task)) })
      case 'addTaskArray':
        return (replyTo) => ({ ...request, replyTo, encoded: encode(request.array), specBytes: 100 })
      case 'closeJob':
        return (replyTo) => ({ kind: 'updateJob', replyTo, jobId: request.jobId, onAllTasksComplete: 'terminatejob' })
      case 'deleteJob': {
        const uid = this.#uidOf(request.jobId)
        if (uid !== undefined) this.#oracle.deleting(uid)
        return (replyTo) => ({ ...request, replyTo })
      }
      case 'reactivateTask': {
        const { disk } = this.#coordinator
        const uid = this.#uidOf(request.jobId)
        const spec = uid === undefined ? undefined : readTaskSpec(disk, uid, request.taskId.toLowerCase())
        const status = uid === undefined ? undefined : readStatus(disk, uid, request.taskId.toLowerCase())
        if (spec === undefined || status?.state !== 'completed') return undefined
        return (replyTo) => ({ kind: 'reactivateTask', replyTo, jobId: request.jobId, spec, status })
      }
      default:
        return (replyTo) => ({ ...request, replyTo })
    }
  }
}
