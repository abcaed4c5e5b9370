import { beforeEach, describe, expect, it } from 'vitest'
import { EventDesk, openEventLog } from '../../coordinator/event-desk.ts'
import { EventLog, eventPrefix, maxEvents } from '../../coordinator/event-log.ts'
import type { Effect } from '../../coordinator/events.ts'
import { newState } from '../../coordinator/make-state.ts'
import { Pipeline } from '../../coordinator/pipeline.ts'
import { createMemoryStore, type Store } from '../../coordinator/store.ts'
import { decode } from '../../protocols/codec.ts'
import { type MeshEvent, meshEventSchema } from '../../protocols/model/event.ts'
import { jobSpecSchema } from '../../protocols/model/job.ts'
import { fixedChance } from '../support/rows.ts'
import { Scene } from '../support/scene.ts'

let scene: Scene
let log: EventLog
let rows: Map<string, MeshEvent>

function listen(past: readonly MeshEvent[] = []): void {
  log = new EventLog(scene.state, past)
  scene.onStep = (event, effects) => take(log.tell(scene.state, event, effects, scene.now))
}

function take(effects: readonly Effect[]): void {
  for (const effect of effects) {
    if (effect.kind === 'put') rows.set(effect.key, meshEventSchema.parse(effect.value))
    else if (effect.kind === 'del') rows.delete(effect.key)
  }
}

/** What was told since the last call, as `kind: message`. */
let seen = 0
function told(): string[] {
  const events = [...rows.values()].filter(({ seq }) => seq > seen)
  seen = log.newest
  return events.map(({ kind, message }) => `${kind}: ${message}`)
}

beforeEach(() => {
  scene = new Scene()
  rows = new Map()
  seen = 0
  listen()
})

/** A job `j` whose tasks run on machine `a`. */
function running(...tasks: string[]): void {
  scene.hello('a', { cores: 8 })
  scene.addJob({ id: 'j', constraints: { maxTaskRetryCount: 1 } })
  scene.addTasks('j', ...tasks)
  scene.claim('a', { slots: tasks.length })
  scene.started('a', ...tasks.map((task) => `j/${task}#1`))
  told()
}

describe('what is told of machines', () => {
  it('is that they joined, went, came back, and were found dead', () => {
    scene.hello('a', { cores: 4 })
    expect(told()).toEqual(['machine-joined: a has joined the mesh; it lends 4 cores as a dedicated machine'])
    scene.heartbeat('a')
    scene.hello('a')
    expect(told()).toEqual([])
    scene.gone('a')
    scene.gone('a', true)
    scene.hello('a', { incarnation: 2 })
    expect(told()).toEqual([
      'machine-disconnected: a is disconnected; its tasks may still be running there',
      'machine-gone: a is gone: its process has ended',
      'machine-connected: a is connected; it lends 4 cores as a dedicated machine',
    ])
    scene.hello('a', { incarnation: 3 })
    expect(told()).toEqual(['machine-connected: a was started again; it lends 4 cores as a dedicated machine'])
    scene.silence('a')
    scene.tick(60)
    expect(told()).toEqual(['machine-disconnected: a is disconnected; its tasks may still be running there'])
  })

  it('is one line for each step when they go down or leave', () => {
    for (const name of ['a', 'b', 'c']) scene.hello(name)
    told()
    scene.drain('a')
    scene.gone('a')
    scene.gone('a', true)
    scene.drain('b', [], true)
    scene.gone('b')
    scene.do({ kind: 'revoked', peer: scene.peer('c') })
    expect(told()).toEqual([
      'machine-draining: a is going down and takes no new tasks',
      'machine-gone: a has gone down',
      'machine-draining: b is leaving the mesh',
      'machine-left: b has left the mesh',
      'machine-revoked: c was sent away: its membership is revoked',
    ])
  })
})

describe('what is told of jobs and pools', () => {
  it('is that they were added, ended and deleted, each once', () => {
    scene.hello('a')
    told()
    scene.addJob({ id: 'J' })
    scene.ask({ kind: 'updateJob', jobId: 'j', priority: 3 })
    scene.addTasks('j', 't')
    scene.ask({ kind: 'terminateJob', jobId: 'j', terminateReason: 'enough' })
    scene.ask({ kind: 'deleteJob', jobId: 'j' })
    scene.addJob({ id: 'k' })
    scene.ask({ kind: 'deleteJob', jobId: 'k' })
    expect(told()).toEqual([
      'job-added: job J was added, in pool default',
      'job-ended: job J has ended (enough): 0 succeeded, 0 failed, 1 never run',
      'job-deleted: job J was deleted',
      'job-added: job k was added, in pool default',
      'job-ended: job k has ended (UserDelete): 0 succeeded, 0 failed',
      'job-deleted: job k was deleted',
    ])
  })

  it('is that pools were created, resized, could not be, and were deleted', () => {
    scene.addPool({ id: 'P', targetDedicatedNodes: 1, resizeTimeoutMs: 60_000 })
    scene.tick(61)
    scene.ask({ kind: 'resizePool', poolId: 'p', targetDedicatedNodes: 0, nodeDeallocationOption: 'requeue' })
    scene.ask({ kind: 'deletePool', poolId: 'p' })
    expect(told()).toEqual([
      'pool-created: pool P was created, for 1 dedicated and 0 low-priority nodes of cores=1,memory=1GiB',
      expect.stringContaining('pool-resize-failed: pool P: Desired number of nodes could not be allocated'),
      'pool-resized: pool P is resized to 0 dedicated and 0 low-priority nodes',
      'pool-deleted: pool P was deleted',
    ])
  })
})

describe('what is told of tasks', () => {
  it('is that they were run again after a failure, and failed for good, but not that they succeeded', () => {
    running('good', 'bad')
    scene.report('a', 'j/good#1', 0)
    scene.report('a', 'j/bad#1', 3)
    scene.claim('a')
    scene.report('a', 'j/bad#2', 4)
    scene.reactivate('j', 'bad')
    expect(told()).toEqual([
      'task-retried: task j/bad failed on a (exit code 3) and is run again (retry 1)',
      'task-failed: task j/bad failed for good on a after 1 retry (exit code 4)',
      'task-reactivated: task j/bad is run again, as a user asked',
    ])
  })

  it('is that they were lost or preempted with their machine', () => {
    running('t')
    scene.gone('a', true)
    expect(told()).toEqual([
      'machine-gone: a is gone: its process has ended',
      'task-lost: task j/t was lost with its machine on a and is run again',
    ])
    scene.hello('low', { class: 'low-priority', cores: 4 })
    scene.claim('low')
    scene.started('low', 'j/t#2')
    scene.gone('low', true)
    expect(told().at(-1)).toBe('task-preempted: task j/t was preempted on low and is run again')
  })

  it('is that machines without the program were left out', () => {
    scene.hello('b', { cores: 8 })
    running('t1', 't2', 't3')
    for (const task of ['t1', 't2', 't3']) scene.report('a', `j/${task}#1`, 127)
    expect(told()).toEqual([
      'task-program-missing: task j/t1 found no program on a (exit code 127) and is given to another machine',
      'task-program-missing: task j/t2 found no program on a (exit code 127) and is given to another machine',
      expect.stringContaining('machine-excluded: a is left out for job j: its program was not found there'),
      'task-program-missing: task j/t3 found no program on a (exit code 127) and is given to another machine',
    ])
  })

  it('is that a user stopped one; the end of the job says it for all of its tasks', () => {
    running('t1', 't2')
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: 't1' })
    scene.ask({ kind: 'terminateJob', jobId: 'j' })
    expect(told()).toEqual([
      'task-stopped: task j/t1 was stopped on a',
      'job-ended: job j has ended (UserTerminate): 0 succeeded, 2 failed',
    ])
  })

  it('is counted after the first hundred of a kind, so that a job that fails does not drown the rest', () => {
    scene.hello('a', { cores: 8 })
    scene.addJob({ id: 'j' })
    const ids = Array.from({ length: 1150 }, (_, at) => `t${at}`)
    scene.addTasks('j', ...ids)
    told()
    for (const id of ids) {
      scene.claim('a')
      scene.report('a', `j/${id}#1`, 1)
    }
    const lines = told()
    expect(lines).toHaveLength(101)
    expect(lines[99]).toMatch(/t99 failed .*counted, not told one by one/)
    expect(lines[100]).toMatch(/^task-failed: 1000 more like this in job j; the last: task t1099/)
    expect([...rows.values()].at(-1)?.count).toBe(1000)
  })
})

describe('a restart', () => {
  it('tells nothing twice: what stands on the disk is known', () => {
    running('t')
    scene.addPool({ id: 'p' })
    told()
    scene.restart()
    listen([...rows.values()])
    scene.hello('a', { inventory: [{ attempt: 'j/t#1' }] })
    scene.report('a', 'j/t#1', 0)
    scene.ask({ kind: 'updateJob', jobId: 'j', priority: 3 })
    expect(told()).toEqual(['machine-connected: a is connected; it lends 8 cores as a dedicated machine'])
  })
})

describe('what is kept', () => {
  const event = (seq: number): MeshEvent => ({ seq, time: seq, kind: 'job-added', message: '', jobId: seq % 2 === 0 ? 'even' : 'odd' })

  it('is bounded, by rows that are deleted together', () => {
    const past = Array.from({ length: maxEvents + 999 }, (_, at) => event(at + 1))
    listen(past)
    expect(log.started('m', '1', 1, 0).map(({ kind }) => kind)).toEqual(['put'])
    const last = log.started('m', '1', 2, 0)
    expect(last.filter(({ kind }) => kind === 'del')).toHaveLength(1001)
    expect(log.list({ after: 0, limit: 1 }).items[0]?.seq).toBe(1002)
    expect(log.list({ after: 500, limit: 1 })).toMatchObject({ missed: 501 })
  })

  it('is shown in pages that miss none and repeat none, also when only some are wanted', () => {
    listen(Array.from({ length: 25 }, (_, at) => event(at + 1)))
    const got: number[] = []
    for (let after = 0; ; ) {
      const page = log.list({ after, jobId: 'EVEN', limit: 5 })
      if (page.items.length === 0) break
      got.push(...page.items.map(({ seq }) => seq))
      after = page.last
    }
    expect(got).toEqual([2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24])
    expect(log.list({ limit: 2 }).items.map(({ seq }) => seq)).toEqual([24, 25])
    expect(log.list({ since: 24, limit: 9 }).items.map(({ seq }) => seq)).toEqual([24, 25])
    expect(log.list({ after: 25, limit: 5 })).toEqual({ items: [], last: 25, missed: 0 })
  })

  it('goes on from the newest for a reader whose number is of another life of the mesh', () => {
    listen([event(1), event(2)])
    expect(log.list({ after: 9, limit: 5 })).toEqual({ items: [], last: 2, missed: 0 })
  })
})

describe('reading', () => {
  async function open(store: Store = createMemoryStore()) {
    const state = newState('peer-of-the-coordinator', { format: 1, ownerEpoch: 1, nextJobUid: 1, nextReservationId: 1 }, 0, fixedChance)
    const desk: EventDesk = new EventDesk(await openEventLog(store, state, { name: 'm', version: '1' }, 5), state, () => pipeline.durable())
    const pipeline = new Pipeline({
      state,
      store,
      now: () => 10,
      perform: () => {},
      beat: () => {},
      onPut: () => {},
      tell: (event, effects, now) => desk.tell(event, effects, now),
      fatal: () => {},
    })
    return { desk, pipeline, store }
  }
  const addJob = (id: string) => ({ kind: 'addJob' as const, replyTo: 1, spec: jobSpecSchema.parse({ id }) })
  const forEver = new AbortController().signal

  it('finds what an earlier start left, and the start itself', async () => {
    const first = await open()
    first.pipeline.post(addJob('a'))
    await first.pipeline.durable()
    const { desk } = await open(first.store)
    const { items } = await desk.list({ limit: 10, waitMs: 0 }, forEver)
    expect(items.map(({ seq, kind }) => [seq, kind])).toEqual([
      [1, 'coordinator-started'],
      [2, 'job-added'],
      [3, 'coordinator-started'],
    ])
  })

  it('L5: shows an event only once its row is on the disk, in the batch of what it tells', async () => {
    const memory = createMemoryStore()
    const batches: string[][] = []
    let release = () => {}
    const { desk, pipeline } = await open(memory)
    const write = memory.write.bind(memory)
    memory.write = async (rows) => {
      batches.push([...rows.keys()])
      await new Promise<void>((resolve) => {
        release = resolve
      })
      return write(rows)
    }
    const reading = desk.list({ after: 1, limit: 10, waitMs: 60_000 }, forEver)
    let isShown = false
    void reading.then(() => {
      isShown = true
    })
    pipeline.post(addJob('a'))
    while (batches.length === 0) await new Promise((resolve) => setImmediate(resolve))
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(isShown).toBe(false)
    expect(batches[0]).toEqual(expect.arrayContaining(['mesh', `${eventPrefix}000000000002`]))
    release()
    expect((await reading).items.map(({ message }) => message)).toEqual(['job a was added, in pool default'])
    expect(decode((await memory.get(`${eventPrefix}000000000002`))!)).toMatchObject({ seq: 2 })
  })

  it('waits for an event that fits, and ends when its reader is gone', async () => {
    const { desk, pipeline } = await open()
    const fit = desk.list({ after: 1, jobId: 'b', limit: 10, waitMs: 60_000 }, forEver)
    pipeline.post(addJob('a'))
    await pipeline.durable()
    pipeline.post(addJob('b'))
    expect((await fit).items.map(({ jobId }) => jobId)).toEqual(['b'])
    const reader = new AbortController()
    const left = desk.list({ after: 3, limit: 10, waitMs: 60_000 }, reader.signal)
    reader.abort()
    expect((await left).items).toEqual([])
  })
})
