/** A line of calls with a thread that begins and ends them as a test says: what is taken back, and what a stop ends. */
import type { EventEmitter } from 'node:events'
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads'
import type { Piscina } from 'piscina'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Line } from '../../node/executors/threads/line.ts'
import type { FromChild, Served, ToThread } from '../../node/executors/threads/messages.ts'
import { Broker } from '../../node/groups/links/broker.ts'

/** Turns of the loop after which what was posted has come. */
const turns = 20

class Thread {
  readonly #served: Served
  readonly #port: MessagePort
  readonly given: number[] = []
  isEnded = false

  constructor(served: Served) {
    this.#served = served
    this.#port = served.port as MessagePort
  }

  /** Whether it may begin the call. */
  begin(id: number): boolean {
    const { states, since } = this.#served
    since[0] = Date.now()
    return Atomics.compareExchange(states, id, id, -id) === id
  }

  answer(id: number): void {
    this.#port.postMessage({ id, answer: { how: 'returned' }, began: 1, ended: 2, last: false })
  }

  /** What it was given so far. */
  take(): number[] {
    for (let told = receiveMessageOnPort(this.#port); told !== undefined; told = receiveMessageOnPort(this.#port)) {
      const message = told.message as ToThread
      if ('calls' in message) this.given.push(...message.calls.map(({ id }) => id))
    }
    return this.given
  }

  close(): void {
    this.#port.close()
  }
}

let threads: Thread[]
let said: FromChild[]
let line: Line

beforeEach(() => {
  threads = []
  said = []
  const pool = {
    threads: [],
    run: (served: Served, { signal }: { signal: EventEmitter }) =>
      new Promise((_, reject) => {
        const thread = new Thread(served)
        threads.push(thread)
        signal.once('abort', () => {
          thread.isEnded = true
          reject(new Error('aborted'))
        })
      }),
  }
  line = new Line({
    setup: { line: 1, file: '/m.mjs', module: 'm.mjs', export: 'default', heapMiB: 64, jobDir: '/', env: {} },
    pool: pool as unknown as Piscina,
    states: new Int32Array(new SharedArrayBuffer(4 * 64)),
    broker: new Broker(),
    say: (message) => said.push(message),
    broken: async () => ({ how: 'exited', code: 1 }),
  })
})
afterEach(() => {
  for (const thread of threads) thread.close()
})

const add = (...ids: number[]) => line.add(ids.map((id) => ({ id, dir: `t${id}` })))

async function heard(): Promise<FromChild[]> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate)
  return said.splice(0)
}

describe('a line of calls', () => {
  it('gives back exactly what has not begun, and none of that begins afterwards', async () => {
    add(1, 2, 3, 4)
    const [thread] = threads
    expect(thread!.take()).toEqual([1, 2, 3, 4])
    expect(thread!.begin(1)).toBe(true)
    line.giveBack([1, 3, 4])
    expect(await heard()).toEqual([{ returned: [3, 4] }])
    expect([2, 3, 4].map((id) => thread!.begin(id))).toEqual([true, false, false])
    line.giveBack([1, 2, 3, 4])
    expect(await heard()).toEqual([])
    thread!.answer(1)
    thread!.answer(2)
    expect(await heard()).toMatchObject([{ id: 1 }, { id: 2 }])
    expect(line.isIdle).toBe(true)
  })

  it('takes a call again that was given back', async () => {
    add(1, 2)
    line.giveBack([2])
    add(2)
    expect(threads[0]!.take()).toEqual([1, 2, 2])
    expect([threads[0]!.begin(2), threads[0]!.begin(2)]).toEqual([true, false])
  })

  it('ends the thread of a call that is stopped, and first takes from it what has not begun', async () => {
    add(1, 2, 3)
    const [thread] = threads
    thread!.begin(1)
    const stopped = line.stop(1)
    expect([thread!.isEnded, thread!.begin(2)]).toEqual([true, false])
    add(4)
    expect(threads).toHaveLength(1)
    await stopped
    expect(await heard()).toEqual([{ returned: [2, 3] }, { id: 1, answer: { how: 'ended' } }])
    expect(threads[1]!.take()).toEqual([4])
  })

  it('leaves the thread alone when a call is over that is to be stopped: it is at the next one', async () => {
    add(1, 2, 3)
    const [thread] = threads
    thread!.begin(1)
    thread!.answer(1)
    thread!.begin(2)
    await line.stop(1)
    expect(thread!.isEnded).toBe(false)
    thread!.answer(2)
    expect(await heard()).toMatchObject([{ returned: [3] }, { id: 1, answer: { how: 'returned' } }, { id: 2, answer: { how: 'returned' } }])
    expect(line.isIdle).toBe(true)
  })

  it('ends a call that has not begun without its thread', async () => {
    add(1, 2)
    threads[0]!.begin(1)
    await line.stop(2)
    expect([threads[0]!.isEnded, threads[0]!.begin(2)]).toEqual([false, false])
    expect(await heard()).toEqual([{ id: 2, answer: { how: 'ended' } }])
  })
})
