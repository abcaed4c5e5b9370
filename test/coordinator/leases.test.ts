import { beforeEach, describe, expect, it } from 'vitest'
import { viewTask } from '../../coordinator/view.ts'
import { readStatus, readTaskSpec } from '../support/rows.ts'
import { Scene } from '../support/scene.ts'

let scene: Scene

/** A job `j` with these tasks, each granted to machine `a` in order; the first `started` of them have begun. */
function running(tasks: string[], started = tasks.length): void {
  scene.addJob({ id: 'j' })
  scene.addTasks('j', ...tasks)
  scene.claim('a', { slots: tasks.length })
  if (started > 0) scene.started('a', ...tasks.slice(0, started).map((task) => `j/${task}#1`))
}

beforeEach(() => {
  scene = new Scene()
  scene.hello('a', { cores: 8 })
  scene.hello('b', { cores: 8 })
})

describe('grants', () => {
  it('L5: a grant comes after its row', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't')
    expect(scene.claim('a')).toEqual(['row j/t running epoch=1 on=a', 'grant a: j/t#1'])
  })

  it('go to one machine only', () => {
    running(['t'])
    expect(scene.claim('b', { waitMs: 0 })).toEqual(['grant b: nothing'])
  })

  it('take what fits the room, and prefetch beside it at most the share of a node', () => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1', 't2', 't3', 't4', 't5', 't6')
    expect(scene.claim('a', { slots: 2, prefetch: 100 }).at(-1)).toBe('grant a: j/t1#1 j/t2#1 j/t3#1 j/t4#1')
  })

  it('follow priority before age, and keep a job within its parallel tasks', () => {
    scene.addJob({ id: 'old' })
    scene.addTasks('old', 'o1', 'o2')
    scene.addJob({ id: 'urgent', priority: 5, maxParallelTasks: 1 })
    scene.addTasks('urgent', 'u1', 'u2')
    expect(scene.claim('a', { slots: 2 }).at(-1)).toBe('grant a: urgent/u1#1 old/o1#1')
    scene.report('a', 'urgent/u1#1', 0)
    expect(scene.claim('a', { slots: 2 }).at(-1)).toBe('grant a: urgent/u2#1 old/o2#1')
  })

  it('go by labels and memory', () => {
    scene.hello('c', { labels: { disk: 'ssd' } })
    scene.addJob({ id: 'j' })
    scene.addTasks('j', { id: 'ssd', resources: { labels: { disk: 'ssd' } } }, { id: 'huge', resources: { memoryMiB: 9000 } })
    expect(scene.claim('a', { waitMs: 0, slots: 4 })).toEqual(['grant a: nothing'])
    expect(scene.claim('c', { waitMs: 0, slots: 4 }).at(-1)).toBe('grant c: j/ssd#1')
  })

  it('hold nothing ready on a default node that reservations have made too small for it', () => {
    scene.addPool({ id: 'p', vmSize: 'cores=7,memory=1GiB', targetDedicatedNodes: 2 })
    scene.grantAll()
    scene.addJob({ id: 'j' })
    scene.addTasks(
      'j',
      { id: 'w1', requiredSlots: 4 },
      { id: 'w2', requiredSlots: 4 },
      { id: 'w3', requiredSlots: 4 },
      { id: 'w4', requiredSlots: 4 },
    )
    expect(scene.claim('a', { slots: 1, prefetch: 100, waitMs: 0 })).toEqual(['grant a: nothing'])
  })
})

describe('L4: repetition', () => {
  beforeEach(() => {
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't1', 't2')
  })

  it('L4: a repeated claim gets the same grants', () => {
    scene.claim('a', { id: 'one' })
    expect(scene.claim('a', { id: 'one' })).toEqual(['grant a: j/t1#1'])
  })

  it('L4: a claim is known again after newer ones were answered', () => {
    scene.claim('a', { id: 'one' })
    scene.claim('a', { id: 'two' })
    expect(scene.claim('a', { id: 'one' })).toEqual(['grant a: j/t1#1'])
  })

  it('L4: a new session starts anew, for what its claims got was told to the one before', () => {
    scene.claim('a', { id: 'one' })
    scene.hello('a')
    expect(scene.claim('a', { id: 'one' })).toEqual(['row j/t1 running epoch=2 on=a', 'grant a: j/t1#2'])
  })

  it('L4: a repeated report is accepted again', () => {
    scene.claim('a')
    scene.report('a', 'j/t1#1', 0)
    expect(scene.report('a', 'j/t1#1', 0)).toEqual(['verdict accepted'])
  })
})

describe('L2: late and stale words', () => {
  it('L2: a report of a replaced attempt is refused and changes nothing', () => {
    running(['t'])
    scene.gone('a', true)
    scene.claim('b')
    scene.hello('a', { incarnation: 2 })
    expect(scene.report('a', 'j/t#1', 0)).toEqual(['verdict refused'])
    expect(scene.status('j', 't')).toMatchObject({ state: 'running', epoch: 2 })
  })

  it('L2: a late report of an attempt that was not replaced is accepted, and the attempt is not counted as lost', () => {
    running(['t'])
    scene.gone('a', true)
    scene.hello('a', { incarnation: 2 })
    expect(scene.report('a', 'j/t#1', 0).at(-1)).toBe('verdict accepted')
    expect(scene.status('j', 't')).toMatchObject({ state: 'completed', result: 'success', epoch: 1, requeueCount: 0 })
    expect(scene.status('j', 't')?.losses).toBeUndefined()
  })

  it('L2: a late failure spends a retry like any other', () => {
    scene.addJob({ id: 'r', constraints: { maxTaskRetryCount: 1 } })
    scene.addTasks('r', 't')
    scene.claim('a')
    scene.started('a', 'r/t#1')
    scene.gone('a', true)
    scene.hello('a', { incarnation: 2 })
    scene.report('a', 'r/t#1', 9)
    expect(scene.status('r', 't')).toMatchObject({ state: 'active', retryCount: 1, requeueCount: 0 })
    expect(scene.status('r', 't')?.history).toMatchObject([{ epoch: 1, end: 'failure', exitCode: 9 }])
  })

  it('L2: another machine cannot report an attempt', () => {
    running(['t'])
    expect(scene.report('b', 'j/t#1', 0)).toEqual(['verdict refused'])
    scene.gone('a', true)
    expect(scene.report('b', 'j/t#1', 0)).toEqual(['verdict refused'])
  })

  it('L2: what an ended job left active is not completed by a late report, nor taken up again', () => {
    running(['t'])
    scene.gone('a', true)
    scene.ask({ kind: 'terminateJob', jobId: 'j' })
    const welcome = scene.hello('a', { incarnation: 2, inventory: [{ attempt: 'j/t#1', state: 'finished' }] })
    expect(welcome.find((line) => line.startsWith('welcome'))).toContain('keep []')
    expect(scene.report('a', 'j/t#1', 0)).toEqual(['verdict refused'])
  })

  it('L2: a terminated task refuses the report of its attempt', () => {
    running(['t'])
    expect(scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: 't' })[0]).toBe('stop a: j/t#1 (The task was ended by a user.)')
    expect(scene.report('a', 'j/t#1', 0)).toEqual(['verdict refused'])
  })

  it('L2: a reactivated task goes on counting from memory, not from the row that was read', () => {
    running(['t'])
    const older = scene.status('j', 't')!
    scene.ask({ kind: 'terminateTask', jobId: 'j', taskId: 't' })
    const spec = { id: 't', commandLine: 'run', requiredSlots: 1 }
    scene.ask({ kind: 'reactivateTask', jobId: 'j', spec, status: older })
    expect(scene.claim('a').at(-1)).toBe('grant a: j/t#3')
  })

  it('a dead session is not heard', () => {
    running(['t'])
    scene.gone('a')
    expect(scene.report('a', 'j/t#1', 0)).toEqual(['refuse InvalidRequestBody'])
    expect(scene.claim('a')).toEqual(['refuse InvalidRequestBody'])
    expect(scene.heartbeat('a')).toEqual([])
  })
})

describe('L3, L7: silence', () => {
  it('L7: a short task is given up after 30 seconds of silence', () => {
    running(['t'])
    scene.silence('a')
    expect(scene.tick(30)).toEqual([])
    expect(scene.tick(1)).toContain('row j/t active epoch=1 requeues=1 losses=1 lastEnd=lost')
  })

  it('L7: a long one after as much silence as it had run, not counting the silence', () => {
    running(['t'])
    // The last heartbeat comes with the 96th second.
    scene.tick(96)
    scene.silence('a')
    expect(scene.tick(96)).toEqual([])
    expect(scene.tick(1)).toContain('row j/t active epoch=1 requeues=1 losses=1 lastEnd=lost')
  })

  it('L7: a job sets its own window, but no less than two heartbeats', () => {
    scene.addJob({ id: 'j', disconnect: { lostAfterMs: 1000 } })
    scene.addTasks('j', 't')
    scene.claim('a')
    scene.started('a', 'j/t#1')
    expect(scene.tick(20)).toEqual([])
    scene.silence('a')
    expect(scene.tick(11)).toContain('row j/t active epoch=1 requeues=1 losses=1 lastEnd=lost')
  })

  it('L7: a job can ask not to replace lost tasks', () => {
    scene.addJob({ id: 'j', disconnect: { replace: false } })
    scene.addTasks('j', 't')
    scene.claim('a')
    scene.started('a', 'j/t#1')
    scene.gone('a', true)
    expect(scene.status('j', 't')).toMatchObject({
      state: 'completed',
      result: 'failure',
      outcome: { failureInfo: { code: 'MachineLost' } },
    })
  })

  it('L3: after a stall of the coordinator every lease has a fresh window', () => {
    running(['t'])
    scene.silence('a')
    expect(scene.stall(20)).toEqual([])
    expect(scene.tick(30)).toEqual([])
    expect(scene.tick(1)).toContain('row j/t active epoch=1 requeues=1 losses=1 lastEnd=lost')
  })

  it('L3: a heartbeat renews all leases of the machine', () => {
    running(['t1', 't2'])
    expect(scene.tick(300)).toEqual([])
  })

  it('a session that nothing came from for 30 seconds is over, and a claim that stood is gone', () => {
    scene.claim('a', { waitMs: 60_000 })
    scene.silence('a')
    scene.tick(31)
    scene.addJob({ id: 'j' })
    expect(scene.addTasks('j', 't').filter((line) => line.startsWith('grant'))).toEqual([])
    expect(scene.heartbeat('a')).toEqual([])
  })
})

describe('L6, L7: sessions', () => {
  it('L7: unstarted leases end with the session, running ones stay', () => {
    running(['t1', 't2'], 1)
    expect(scene.gone('a')).toEqual(['row j/t2 active epoch=1 lastEnd=lost'])
  })

  it('L6: what an inventory omits is requeued at once', () => {
    running(['t1', 't2'])
    expect(scene.hello('a', { inventory: [{ attempt: 'j/t2#1' }] })).toEqual([
      'row j/t1 active epoch=1 requeues=1 losses=1 lastEnd=lost',
      'watch j/t1 active epoch=1 end=lost',
      'row machine a incarnation=1',
      'welcome keep [j/t2#1] nodes [tvm-er-machine-a]',
    ])
  })

  it('L6: what was given up and not replaced is taken up again, on the disk too', () => {
    running(['t'])
    scene.silence('a')
    scene.tick(31)
    expect(scene.hello('a', { inventory: [{ attempt: 'j/t#1' }] })).toEqual([
      'row j/t running epoch=1 on=a',
      'row machine a incarnation=1',
      'welcome keep [j/t#1] nodes [tvm-er-machine-a]',
    ])
    scene.restart()
    expect(scene.claim('b', { waitMs: 0 })).not.toContain('grant b: j/t#2')
    scene.hello('b')
    expect(scene.claim('b', { waitMs: 0 })).toEqual(['grant b: nothing'])
  })

  it('L6: an outcome whose acknowledgement was lost is kept, to be reported and accepted again', () => {
    running(['t'])
    scene.report('a', 'j/t#1', 0)
    expect(scene.hello('a', { inventory: [{ attempt: 'j/t#1', state: 'finished' }] }).at(-1)).toBe(
      'welcome keep [j/t#1] nodes [tvm-er-machine-a]',
    )
    expect(scene.report('a', 'j/t#1', 0)).toEqual(['verdict accepted'])
  })

  it('L7: a new incarnation ends what the one before ran', () => {
    running(['t'])
    expect(scene.hello('a', { incarnation: 2 })[0]).toBe('row j/t active epoch=1 requeues=1 losses=1 lastEnd=lost')
  })

  it('L7: a run of the machine that is over cannot say hello any more', () => {
    scene.hello('a', { incarnation: 5 })
    expect(scene.hello('a', { incarnation: 4 })).toEqual(['refuse InvalidPropertyValue'])
  })

  it('a coordinator that was replaced is told so by a machine', () => {
    expect(scene.hello('a', { ownerEpoch: 7 })).toEqual(['refuse CoordinatorExists'])
  })
})

describe('C1: counting', () => {
  it('C1: only failures spend retries', () => {
    scene.addJob({ id: 'j', constraints: { maxTaskRetryCount: 1 } })
    scene.addTasks('j', 't')
    for (const incarnation of [2, 3, 4]) {
      scene.claim('a')
      scene.started('a', `j/t#${incarnation - 1}`)
      scene.gone('a', true)
      scene.hello('a', { incarnation })
    }
    scene.claim('a')
    scene.report('a', 'j/t#4', 1)
    expect(scene.status('j', 't')).toMatchObject({ state: 'active', retryCount: 1, requeueCount: 3, losses: 3 })
    scene.claim('a')
    scene.report('a', 'j/t#5', 1)
    expect(scene.status('j', 't')).toMatchObject({ state: 'completed', result: 'failure' })
  })

  it.each([
    ['dedicated', 10],
    ['low-priority', 100],
  ] as const)('C1: a task that ends its %s machine %i times is completed', (kind, times) => {
    scene.hello('x', { class: kind })
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't')
    for (let n = 1; n <= times; n += 1) {
      expect(scene.status('j', 't')?.state ?? 'active').toBe('active')
      scene.claim('x')
      scene.started('x', `j/t#${n}`)
      scene.gone('x', true)
      scene.hello('x', { incarnation: n + 1 })
    }
    const failureInfo = { code: 'MaxInternalRetryCountReached' }
    expect(scene.status('j', 't')).toMatchObject({ state: 'completed', result: 'failure', epoch: times + 1, outcome: { failureInfo } })
  })

  it('C1: a task that could not be fetched or stored is not retried', () => {
    scene.addJob({ id: 'j', constraints: { maxTaskRetryCount: 5 } })
    scene.addTasks('j', 't')
    scene.claim('a')
    const failureInfo = { category: 'usererror' as const, code: 'BlobNotFound' as const, message: 'no machine has it' }
    scene.report('a', 'j/t#1', undefined, { failureInfo })
    expect(scene.status('j', 't')).toMatchObject({ state: 'completed', result: 'failure', retryCount: 0 })
  })
})

describe('draining', () => {
  it('gives back what has not started, gets nothing, and is forgotten when it leaves', () => {
    running(['t1', 't2'], 1)
    expect(scene.drain('a', ['j/t2#1'], true)).toEqual(['row j/t2 active epoch=1 lastEnd=lost'])
    expect(scene.claim('a', { waitMs: 0 })).toEqual(['grant a: nothing'])
    scene.report('a', 'j/t1#1', 0)
    expect(scene.gone('a')).toEqual(['del machine a'])
  })

  it('L7 C1: gives back what it has stopped, which is neither lost nor a retry', () => {
    running(['t'])
    expect(scene.drain('a', ['j/t#1'])).toEqual(['row j/t active epoch=1 requeues=1 lastEnd=lost', 'watch j/t active epoch=1 end=requeued'])
    expect(scene.gone('a')).toEqual([])
  })

  it('a machine whose membership is revoked loses everything, and its claim is answered', () => {
    running(['t'])
    scene.claim('a')
    expect(scene.do({ kind: 'revoked', peer: scene.peer('a') })).toEqual([
      'grant a: nothing',
      'stop a: j/t#1 (the machine has left the mesh)',
      'row j/t active epoch=1 requeues=1 losses=1 lastEnd=revoked',
      'watch j/t active epoch=1 end=lost',
      'del machine a',
    ])
    expect(scene.report('a', 'j/t#1', 0)).toEqual(['refuse InvalidRequestBody'])
  })
})

describe('the row of a running task', () => {
  it('says once where it runs; a start that reads it shows the machine by its name', () => {
    const scene = new Scene()
    scene.hello('a', { cores: 1 })
    scene.addJob({ id: 'j' })
    scene.addTasks('j', 't')
    scene.claim('a')
    const row = () => readStatus(scene.rows, 1, 't')!
    expect(row()).toMatchObject({ state: 'running', lease: [{ machine: scene.peer('a'), nodeId: scene.nodeOf('a') }] })
    expect(row().ranOn).toBeUndefined()
    scene.restart()
    const shown = viewTask(scene.state, scene.state.jobs.get(1)!, readTaskSpec(scene.rows, 1, 't')!, 0, row())
    expect(shown.nodeInfo).toMatchObject({ machine: scene.peer('a'), machineName: 'a', taskRootDirectory: 'workitems/j/job-1/t' })
    scene.hello('a', { inventory: [{ attempt: 'j/t#1' }] })
    scene.report('a', 'j/t#1', 0)
    expect(row()).toMatchObject({ state: 'completed', ranOn: { machine: scene.peer('a'), machineName: 'a', epoch: 1 } })
    expect(row().lease).toBeUndefined()
  })
})
