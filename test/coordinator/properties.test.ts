import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Effect } from '../../coordinator/events.ts'
import type { StatusRow } from '../../coordinator/rows.ts'
import { lookUp } from '../../coordinator/task-book.ts'
import { viewCounts } from '../../coordinator/view.ts'
import { decode } from '../../protocols/codec.ts'
import { Scene } from '../support/scene.ts'

const machines = ['a', 'b', 'c'] as const
const jobs = ['plain', 'linked', 'groups'] as const
/** Runs are the same every time; raise the number to look further. */
const parameters = { seed: 20_261_121, numRuns: 150 }

const machine = fc.constantFrom(...machines)
const job = fc.constantFrom(...jobs)
/** Stands for a task or an attempt: taken modulo what there is. */
const which = fc.nat(1000)

/** One thing that may happen; numbers are resolved against the scene when it happens. */
const happening = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ does: fc.constant('claim' as const), machine, slots: fc.integer({ min: 1, max: 4 }), prefetch: fc.nat(3) }),
  },
  { weight: 6, arbitrary: fc.record({ does: fc.constant('report' as const), machine, which, exitCode: fc.constantFrom(0, 0, 1, 127) }) },
  { weight: 4, arbitrary: fc.record({ does: fc.constant('started' as const), machine, which }) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('hello' as const), machine, keeps: fc.nat(7), again: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('gone' as const), machine, dead: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('tick' as const), seconds: fc.constantFrom(1, 1, 12, 40) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('silence' as const), machine }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('restart' as const) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('stall' as const) }) },
  { weight: 2, arbitrary: fc.record({ does: fc.constant('submit' as const), job, count: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('array' as const), job, count: fc.integer({ min: 1, max: 6 }), step: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('terminateTask' as const), job, which }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('reactivate' as const), job, which }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('resize' as const), target: fc.nat(3), option: fc.nat(2) }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('return' as const), machine, which, leaving: fc.boolean() }) },
)
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never

/** A mesh on which things happen, and what holds whatever happens. */
class Trial {
  readonly scene = new Scene()
  readonly #incarnations = new Map<string, number>()
  readonly #answered = new Set<number>()
  readonly #last = new Map<string, StatusRow>()
  /** Tasks that were added, of arrays too. */
  readonly #ids = new Map<string, string[]>()
  #tasks = 0
  #reactivated: string | undefined

  constructor() {
    for (const name of machines) this.scene.hello(name, { cores: 4, class: name === 'c' ? 'low-priority' : 'dedicated' })
    this.scene.addPool({ id: 'p', targetDedicatedNodes: 2, enableInterNodeCommunication: true })
    this.scene.grantAll()
    this.scene.addJob({ id: 'plain', constraints: { maxTaskRetryCount: 1 } })
    this.scene.addJob({ id: 'linked', usesTaskDependencies: true })
    this.scene.addJob({ id: 'groups', poolId: 'p', constraints: { maxTaskRetryCount: 2 } })
    this.#watch()
  }

  happen(it: Happening): void {
    this.#reactivated = undefined
    this.#do(it)
    this.#watch()
  }

  /** Attempts that were ever given, as `job/task#epoch`. */
  #attempts(name: string): string[] {
    const found: string[] = []
    for (const [key, value] of this.scene.rows) {
      if (!key.startsWith('stat/')) continue
      const row = decode(value) as StatusRow
      const [, uid, task] = key.split('/')
      for (let epoch = 1; epoch <= row.epoch; epoch += 1) found.push(`${this.scene.jobOf(Number(uid))}/${task}#${epoch}`)
    }
    const held = [...(this.scene.state.machines.get(this.scene.peer(name))?.leases.values() ?? [])]
    // What it really has comes up more often than what it once had or never had.
    const mine = held.flatMap((lease) =>
      lease.members.flatMap((member, index) =>
        member.machine.description.name === name
          ? [`${lease.task.job.row.spec.id}/${lease.task.id}#${lease.epoch}${index === 0 ? '' : `+${index}`}`]
          : [],
      ),
    )
    return [...mine, ...mine, ...mine, ...found]
  }

  #attempt(name: string, index: number): string | undefined {
    const attempts = this.#attempts(name)
    return attempts[index % Math.max(1, attempts.length)]
  }

  #task(jobId: string, index: number): string | undefined {
    const ids = this.#ids.get(jobId) ?? []
    return ids[index % Math.max(1, ids.length)]
  }

  #do(it: Happening): void {
    const { scene } = this
    switch (it.does) {
      case 'claim': {
        const nodes = [...(scene.state.machines.get(scene.peer(it.machine))?.nodes.keys() ?? [])]
        scene.claim(it.machine, { slots: it.slots, prefetch: it.prefetch, nodes })
        return
      }
      case 'report': {
        const attempt = this.#attempt(it.machine, it.which)
        if (attempt !== undefined) this.#report(it.machine, attempt, it.exitCode)
        return
      }
      case 'started': {
        const attempt = this.#attempt(it.machine, it.which)
        if (attempt !== undefined) scene.started(it.machine, attempt)
        return
      }
      case 'hello': {
        const incarnation = (this.#incarnations.get(it.machine) ?? 1) + (it.again ? 1 : 0)
        this.#incarnations.set(it.machine, incarnation)
        const attempts = [...new Set(this.#attempts(it.machine))].filter((_, index) => (it.keeps >> (index % 3)) % 2 === 1)
        const state = it.again ? ('finished' as const) : ('running' as const)
        scene.hello(it.machine, { incarnation, inventory: attempts.map((attempt) => ({ attempt, state })) })
        return
      }
      case 'gone':
        scene.gone(it.machine, it.dead)
        return
      case 'tick':
        scene.tick(it.seconds)
        scene.grantAll()
        return
      case 'silence':
        return scene.silence(it.machine)
      case 'restart':
        return this.#restart()
      case 'stall':
        scene.stall(100)
        return
      case 'submit':
        return this.#submit(it.job, it.count)
      case 'array':
        return this.#submitArray(it.job, it.count, it.step + 1)
      case 'terminateTask': {
        const taskId = this.#task(it.job, it.which)
        if (taskId !== undefined) scene.ask({ kind: 'terminateTask', jobId: it.job, taskId })
        return
      }
      case 'reactivate': {
        const taskId = this.#task(it.job, it.which)
        if (taskId === undefined || scene.status(it.job, taskId) === undefined) return
        this.#reactivated = `${scene.uidOf(it.job)}/${taskId}`
        scene.reactivate(it.job, taskId)
        return
      }
      case 'resize': {
        const nodeDeallocationOption = (['requeue', 'terminate', 'taskcompletion'] as const)[it.option]!
        scene.ask({ kind: 'resizePool', poolId: 'p', targetDedicatedNodes: it.target, nodeDeallocationOption })
        scene.grantAll()
        return
      }
      case 'return': {
        const attempt = this.#attempt(it.machine, it.which)
        if (attempt === undefined) return
        if (it.leaving) scene.drain(it.machine, [attempt])
        else scene.retracted(it.machine, attempt)
      }
    }
  }

  /** Under a prefix of its own, or of an array before, with which it may or may not have an id in common. */
  #submitArray(jobId: string, count: number, step: number): void {
    const { scene } = this
    const group = { multiInstanceSettings: { numberOfInstances: 1 + (count % 2), coordinationCommandLine: 'begin' } }
    const parent = this.#task(jobId, count)
    const waits = jobId === 'linked' && parent !== undefined ? { dependsOn: { taskIds: [parent] } } : {}
    const idPrefix = count % 2 === 0 ? 'x' : `a${this.#tasks}-`
    const indexes = [{ start: step, end: step + (count - 1) * step, step }]
    const [said] = scene.addArray(jobId, { indexes, idPrefix, template: jobId === 'groups' ? group : waits })
    const known = this.#ids.get(jobId) ?? []
    const ids = Array.from({ length: count }, (_, at) => `${idPrefix}${String(step + at * step).padStart(4, '0')}`)
    const isTaken = ids.some((id) => known.includes(id))
    expect(said === 'refuse TaskExists', 'an array is refused when one of its ids is taken').toBe(isTaken)
    if (!isTaken) this.#ids.set(jobId, [...known, ...ids])
  }

  #submit(jobId: string, count: number): void {
    for (let n = 0; n < count; n += 1) {
      this.#tasks += 1
      const id = String(this.#tasks)
      this.#ids.set(jobId, [...(this.#ids.get(jobId) ?? []), id])
      if (jobId === 'groups')
        this.scene.addTasks(jobId, { id, multiInstanceSettings: { numberOfInstances: 1 + (n % 2), coordinationCommandLine: 'begin' } })
      else if (jobId === 'linked')
        this.scene.addTasks(jobId, { id, dependsOn: { taskIds: this.#task(jobId, n) === undefined ? [] : [this.#task(jobId, n)!] } })
      else this.scene.addTasks(jobId, id)
    }
  }

  /** L2: what is refused changes nothing of the task. */
  #report(name: string, attempt: string, exitCode: number): void {
    const { scene } = this
    const { jobUid, task } = scene.attempt(attempt)
    const facts = () => {
      const job = scene.state.jobs.get(jobUid)
      const live = job === undefined ? undefined : lookUp(job, task)
      if (typeof live !== 'object') return live
      const { epoch, retries, requeues, losses, lastEnd, lease } = live
      return { epoch, retries, requeues, losses, lastEnd, lease }
    }
    const before = facts()
    const [said] = scene.report(name, attempt, exitCode)
    if (said !== 'verdict refused') return
    const [answer, ...rest] = scene.effects as Effect[]
    expect(answer?.kind).toBe('answer')
    // The end of the turn may give the task to a claim that waits, but the report itself has done nothing.
    if (rest.every((effect) => effect.kind !== 'put')) expect(facts()).toEqual(before)
  }

  /** A restart shows the same of every job as before, but for which programs are known to have begun. */
  #restart(): void {
    const counts = () =>
      jobs.map((id) => {
        const { active, running, ...ended } = viewCounts(this.scene.state.jobIds.get(id)!)
        return { live: active + running, ...ended }
      })
    const before = counts()
    this.scene.restart(5)
    expect(counts()).toEqual(before)
  }

  #watch(): void {
    for (const [key, value] of this.scene.rows) {
      if (!key.startsWith('stat/')) continue
      const row = decode(value) as StatusRow
      const before = this.#last.get(key)
      this.#last.set(key, row)
      if (before === undefined) continue
      expect(row.epoch, `L2: the epoch of ${key}`).toBeGreaterThanOrEqual(before.epoch)
      const [, uid, task] = key.split('/')
      const wasReactivated = this.#reactivated === `${Number(uid)}/${task}` && before.result === 'failure'
      if (before.state === 'completed' && !wasReactivated) expect(row, `L1: the result of ${key}`).toEqual(before)
    }
    for (const effect of this.scene.effects) {
      if (!('replyTo' in effect) || effect.replyTo === undefined) continue
      expect(this.#answered.has(effect.replyTo), `L4: request ${effect.replyTo} is answered twice`).toBe(false)
      this.#answered.add(effect.replyTo)
    }
    this.scene.effects = []
  }
}

describe('whatever happens', () => {
  it('the memory agrees with itself, epochs only grow, results stay, what is refused changes nothing', () => {
    fc.assert(
      fc.property(fc.array(happening, { minLength: 5, maxLength: 60 }), (happenings) => {
        const trial = new Trial()
        for (const it of happenings) trial.happen(it)
      }),
      parameters,
    )
  })
})
