/**
 * A task that waits for others is held in the book from the start, any other is a line of the roll until its turn. Beyond
 * that they must not differ: the same happenings are told to two coordinators, and in one of them each task waits for one
 * that has succeeded already.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { liveEntries, lookUp } from '../../coordinator/task-book.ts'
import { viewCounts } from '../../coordinator/view.ts'
import { Scene } from '../support/scene.ts'

const ids = Array.from({ length: 40 }, (_, n) => (n % 3 === 0 ? `T${n}` : `t${n}`))

const happening = fc.oneof(
  fc.record({ kind: fc.constant('add' as const), count: fc.integer({ min: 1, max: 6 }), slots: fc.array(fc.integer({ min: 1, max: 2 })) }),
  fc.record({ kind: fc.constant('claim' as const), machine: fc.constantFrom('a', 'b'), slots: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ kind: fc.constant('report' as const), at: fc.nat(), exitCode: fc.constantFrom(0, 0, 1) }),
  fc.record({ kind: fc.constantFrom('terminate' as const, 'reactivate' as const, 'again' as const), at: fc.nat(39) }),
  fc.record({ kind: fc.constant('gone' as const), machine: fc.constantFrom('a', 'b') }),
  fc.record({ kind: fc.constantFrom('restart' as const, 'tick' as const) }),
)
type Happening = typeof happening extends fc.Arbitrary<infer T> ? T : never

class Side {
  readonly scene = new Scene()
  readonly #isHeld: boolean
  #added = 0

  constructor(isHeld: boolean) {
    this.#isHeld = isHeld
    this.scene.hello('a', { cores: 5 })
    this.scene.hello('b', { cores: 5 })
    this.scene.addJob({ id: 'j', usesTaskDependencies: true, constraints: { maxTaskRetryCount: 1 } })
    this.scene.addTasks('j', 'first')
    this.scene.claim('a')
    this.scene.report('a', 'j/first#1', 0)
  }

  /** What came of it, without the rows that say how the tasks were added. */
  happen(it: Happening): string[] {
    return this.#told(it).filter((line) => !line.startsWith('row spec') && !line.startsWith('row roll'))
  }

  #told(it: Happening): string[] {
    const { scene } = this
    switch (it.kind) {
      case 'add': {
        const from = this.#added
        this.#added = Math.min(ids.length, from + it.count)
        return this.#add(ids.slice(from, this.#added), it.slots)
      }
      // Some of these are there already, in another case.
      case 'again':
        return this.#add(
          ids.slice(0, Math.min(it.at, this.#added)).map((id) => id.toUpperCase()),
          [],
        )
      case 'claim':
        return scene.claim(it.machine, { slots: it.slots, waitMs: 0 })
      case 'report': {
        const leased = [...liveEntries(this.#job)].filter(({ lease }) => lease !== undefined).map(({ id }) => id)
        const task = lookUp(this.#job, leased.sort()[it.at % Math.max(1, leased.length)] ?? '')
        if (typeof task !== 'object' || task.lease === undefined) return []
        return scene.report(scene.nameOf(task.lease.members[0]!.machine.peer), `j/${task.id}#${task.epoch}`, it.exitCode)
      }
      case 'terminate':
        return scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: ids[it.at]! })
      case 'reactivate':
        return scene.status('j', ids[it.at]!) === undefined ? [] : scene.reactivate('j', ids[it.at]!)
      case 'gone':
        return [...scene.gone(it.machine, true), ...scene.hello(it.machine)]
      case 'tick':
        return scene.tick(1)
      case 'restart':
        scene.restart()
        return [...scene.hello('a'), ...scene.hello('b')]
    }
  }

  #add(some: readonly string[], slots: readonly number[]): string[] {
    const more = this.#isHeld ? { dependsOn: { taskIds: ['first'] } } : {}
    return this.scene.addTasks('j', ...some.map((id, n) => ({ id, requiredSlots: slots[n] ?? 1, ...more })))
  }

  get #job() {
    return this.scene.state.jobIds.get('j')!
  }

  known() {
    const tasks = ids.map((id) => {
      const known = lookUp(this.#job, id.toLowerCase())
      if (typeof known !== 'object') return known
      const { name, class: kind, epoch, retries, requeues, losses, maxRetries, waiting, queued, lastEnd, lease } = known
      return { name, kind: kind.key, epoch, retries, requeues, losses, maxRetries, waiting, queued, lastEnd, leased: lease !== undefined }
    })
    return { tasks, counts: viewCounts(this.#job), ready: this.#job.ready }
  }
}

describe('a task of the roll', () => {
  it('goes the same way as one that is held in memory, whatever happens', () => {
    fc.assert(
      fc.property(fc.array(happening, { minLength: 5, maxLength: 40 }), (happenings) => {
        const [lines, held] = [new Side(false), new Side(true)]
        for (const it of happenings) {
          expect(lines.happen(it)).toEqual(held.happen(it))
          expect(lines.known()).toEqual(held.known())
        }
      }),
      { numRuns: 60 },
    )
  })
})
