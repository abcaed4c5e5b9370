import { describe, expect, it } from 'vitest'
import type { Effect } from '../../coordinator/events.ts'
import { addMachineToState, addNodeToState, newState } from '../../coordinator/make-state.ts'
import { type Batch, type Beat, Pipeline } from '../../coordinator/pipeline.ts'
import { createMemoryStore, type Rows, type Store } from '../../coordinator/store.ts'
import { jobSpecSchema } from '../../protocols/model/job.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import { taskArraySchema } from '../../protocols/model/task-array.ts'
import { fixedChance } from '../support/rows.ts'

interface Write {
  rows: Rows
  finish: () => void
  fail: (error: Error) => void
}

/** A pipeline on a store whose writes finish when the test says so. */
function setup(fatal: (error: unknown) => void = () => {}) {
  const writes: Write[] = []
  let arrived = () => {}
  const store: Store = {
    ...createMemoryStore(),
    write: (rows) =>
      new Promise<void>((finish, fail) => {
        writes.push({ rows, finish, fail })
        arrived()
      }),
  }
  const state = newState('peer-of-the-coordinator', { format: 1, ownerEpoch: 1, nextJobUid: 1, nextReservationId: 1 }, 0, fixedChance)
  const performed: Effect[] = []
  const perform = (batch: Batch) => {
    performed.push(...batch.effects)
  }
  const beats: number[] = []
  const beat = ({ sentAt }: Beat) => void beats.push(sentAt)
  const pipeline = new Pipeline({ state, store, now: () => 1000, perform, beat, onPut: () => {}, fatal })
  /** Resolves at the next write. Ask before causing it. */
  const nextWrite = () =>
    new Promise<void>((resolve) => {
      arrived = resolve
    })
  const answered = () => performed.flatMap((effect) => (effect.kind === 'answer' ? [effect.replyTo] : []))
  return { pipeline, state, writes, nextWrite, answered, beats }
}

const machine: MachineDescription = {
  name: 'a',
  class: 'dedicated',
  capacity: { cores: 1, memoryMiB: 1, gpus: 0 },
  diskFreeMiB: 1,
  labels: {},
  os: 'linux',
  arch: 'x64',
  version: '1',
  isolation: 'process-group',
  addresses: [],
  nodeRootDir: '/',
}
const nodeRow = { reservationId: 0, ownerEpoch: 1, poolId: 'default', machineName: 'a', allocationTime: 0, leaving: false }
const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve))
const addJob = (id: string, replyTo: number) => ({ kind: 'addJob' as const, replyTo, spec: jobSpecSchema.parse({ id }) })

describe('persist, then speak', () => {
  it('L5: answers nothing before its rows are on the disk', async () => {
    const { pipeline, writes, nextWrite, answered } = setup()
    const write = nextWrite()
    pipeline.post(addJob('a', 7))
    await write
    await nextTurn()
    expect(answered()).toEqual([])
    writes[0]!.finish()
    await pipeline.durable()
    expect(answered()).toEqual([7])
  })

  it('L3: answers a heartbeat while a batch is on its way to the disk', async () => {
    const { pipeline, state, writes, nextWrite, answered, beats } = setup()
    addMachineToState(state, 'peer-a', machine, 0).session = 1
    const write = nextWrite()
    pipeline.post(addJob('a', 7))
    await write
    pipeline.post({ kind: 'heartbeat', peer: 'peer-a', session: 1, sentAt: 3 })
    await nextTurn()
    await nextTurn()
    expect(beats).toEqual([3])
    expect(answered()).toEqual([])
    writes[0]!.finish()
    await pipeline.durable()
    expect(beats).toEqual([3])
  })

  it('L3: takes a heartbeat ahead of thousands of other events', async () => {
    const { pipeline, state, beats } = setup()
    addMachineToState(state, 'peer-a', machine, 0).session = 1
    for (let n = 0; n < 5000; n += 1) pipeline.post({ kind: 'gone', peer: 'nobody', session: n, dead: false })
    pipeline.post({ kind: 'heartbeat', peer: 'peer-a', session: 1, sentAt: 3 })
    await nextTurn()
    await nextTurn()
    expect(beats).toEqual([3])
  })

  it('goes on by itself with events and claims that are too many for one turn', async () => {
    const { pipeline, state, writes, nextWrite, answered } = setup()
    for (const peer of ['peer-a', 'peer-b', 'peer-c']) {
      const node = { ...nodeRow, nodeId: peer, machine: peer }
      const added = addMachineToState(state, peer, machine, 0)
      addNodeToState(state.pools.get('default')!, added, node, machine.capacity, 512, true)
      added.session = 1
      const room = { slots: 512, cores: 512, memoryMiB: 1, gpus: 0 }
      const claim = { requestId: 'c', nodes: [{ nodeId: peer, room, prefetchSlots: 0 }], waitMs: 1000 }
      pipeline.post({ kind: 'claim', replyTo: 0, peer, session: 1, claim })
    }
    const array = taskArraySchema.parse({ indexes: [{ start: 0, end: 1999 }], template: { commandLine: 'x' } })
    for (let n = 0; n < 998; n += 1) pipeline.post({ kind: 'tick' })
    pipeline.post(addJob('late', 1))
    pipeline.post({ kind: 'addTaskArray', replyTo: 2, jobId: 'late', array, encoded: new Uint8Array(), specBytes: 1 })
    for (let leased = 0; leased < 1536; leased = [...state.jobs.values()][0]?.leased ?? 0) {
      const write = nextWrite()
      if (writes.length === 0) await write
      writes.shift()?.finish()
      await nextTurn()
    }
    for (const { finish } of writes) finish()
    expect(answered()).toContain(1)
  })

  it('L5: writes the rows of one turn as one batch', async () => {
    const { pipeline, writes, nextWrite } = setup()
    const write = nextWrite()
    pipeline.post(addJob('a', 1))
    pipeline.post(addJob('b', 2))
    await write
    expect(writes.map(({ rows }) => [...rows.keys()].sort())).toEqual([['job/0000000001', 'job/0000000002', 'mesh']])
    writes[0]!.finish()
    await pipeline.durable()
  })

  it('L5: gathers the next batch while one is on its way, and performs in order', async () => {
    const { pipeline, writes, nextWrite, answered } = setup()
    let write = nextWrite()
    pipeline.post(addJob('a', 1))
    await write
    for (const [id, replyTo] of [
      ['b', 2],
      ['c', 3],
    ] as const) {
      pipeline.post(addJob(id, replyTo))
      await nextTurn()
      await nextTurn()
    }
    expect(writes).toHaveLength(1)
    write = nextWrite()
    writes[0]!.finish()
    await write
    expect(writes).toHaveLength(2)
    expect(answered()).toEqual([1])
    writes[1]!.finish()
    await pipeline.durable()
    expect(answered()).toEqual([1, 2, 3])
  })

  it('L5: a reader waits for what it has seen in memory', async () => {
    const { pipeline, writes, nextWrite, state } = setup()
    const write = nextWrite()
    pipeline.post(addJob('a', 1))
    await write
    expect(state.jobIds.has('a')).toBe(true)
    let isDurable = false
    const read = pipeline.durable().then(() => {
      isDurable = true
    })
    await nextTurn()
    expect(isDurable).toBe(false)
    writes[0]!.finish()
    await read
  })

  it('L5: a read that waits for a batch that fails is never answered', async () => {
    const { pipeline, writes, nextWrite } = setup()
    const write = nextWrite()
    pipeline.post(addJob('a', 1))
    await write
    let answers = 0
    const answer = () => {
      answers += 1
    }
    void pipeline.durable().then(answer)
    writes[0]!.fail(new Error('input/output error'))
    await nextTurn()
    void pipeline.durable().then(answer)
    await nextTurn()
    await pipeline.stop()
    expect(answers).toBe(0)
  })

  it('L5: a failed write ends the process, and nothing is said any more', async () => {
    const failures: unknown[] = []
    const { pipeline, writes, nextWrite, answered } = setup((error) => failures.push(error))
    const write = nextWrite()
    pipeline.post(addJob('a', 1))
    await write
    writes[0]!.fail(new Error('no space left on device'))
    await nextTurn()
    pipeline.post(addJob('b', 2))
    await nextTurn()
    await nextTurn()
    expect(String(failures[0])).toContain('no space left')
    expect(answered()).toEqual([])
    expect(writes).toHaveLength(1)
  })
})
