/** Members in processes and threads of their own that die, fall silent, or are only busy. */
import { type ChildProcess, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it } from 'vitest'
import type { Link } from '../../../node/groups/link.ts'
import { Broker } from '../../../node/groups/links/broker.ts'
import { encodeCard } from '../../../node/groups/links/card.ts'
import { type Member, openMember } from '../../../node/groups/links/member.ts'
import { Watch } from '../../../node/groups/links/watch.ts'
import { inboxOf, sendNumbered } from '../../contracts/link-contract.ts'
import type { Said, Told } from './member-program.ts'

const loopback = ['127.0.0.1']
const key = new Uint8Array(randomBytes(32))
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

class Child {
  readonly said: Said[] = []
  readonly process: ChildProcess
  #told = () => {}

  constructor() {
    this.process = fork(join(import.meta.dirname, 'member-program.ts'), { serialization: 'advanced' })
    this.process.on('message', (said: Said) => {
      this.said.push(said)
      this.#told()
    })
    cleanups.push(() => this.process.kill('SIGKILL'))
  }

  tell(told: Told): void {
    this.process.send(told)
  }

  async until<T>(find: (said: Said) => T | undefined): Promise<T> {
    for (;;) {
      for (const said of this.said) {
        const found = find(said)
        if (found !== undefined) return found
      }
      await new Promise<void>((resolve) => (this.#told = resolve))
    }
  }

  card(): Promise<Uint8Array> {
    return this.until((said) => ('card' in said ? said.card : undefined))
  }

  why(rank: number): Promise<string> {
    return this.until((said) => ('lost' in said && said.lost === rank ? said.why : undefined))
  }
}

/** A member of this process, and so many in processes of their own. */
async function group(children: number) {
  const own = await openMember({ addresses: loopback })
  const others = Array.from({ length: children }, () => new Child())
  const cards = [own.card, ...(await Promise.all(others.map((child) => child.card())))]
  for (const [at, child] of others.entries()) child.tell({ rank: at + 1, cards, key })
  const link = await own.join({ rank: 0, cards, key })
  cleanups.push(() => link.close())
  const inbox = inboxOf(link)
  await Promise.all([
    sendNumbered(link, 1, 0, 0),
    inbox.count(1),
    ...others.map((child) => child.until((said) => 'got' in said || undefined)),
  ])
  inbox.messages.length = 0
  return { link, inbox, others }
}

describe('a member in a process of its own', () => {
  it('that is killed is lost for all, those too that never spoke with it', async () => {
    // Of six in a ring nobody but 2 and 4 has a connection to 3.
    const { inbox, others } = await group(5)
    const [one, two, three, four, five] = others as [Child, Child, Child, Child, Child]
    three.process.kill('SIGKILL')
    await Promise.all([inbox.loss(3), ...[one, two, four, five].map((child) => child.why(3))])
    expect(inbox.losses.map(({ rank }) => rank)).toEqual([3])
    expect(inbox.losses[0]!.error.message).toMatch(/^Member 3 is gone: .*nobody listens there/)
  })

  it('that was sent something when it is killed is lost, and the send rejects', async () => {
    const { link, inbox, others } = await group(2)
    others[1]!.process.kill('SIGSTOP')
    const sent = sendNumbered(link, 2, 1, 64 << 20)
    others[1]!.process.kill('SIGKILL')
    await expect(sent).rejects.toThrow(/^Member 2 (is gone|cannot be reached): /)
    await Promise.all([inbox.loss(2), others[0]!.why(2)])
  })

  it('that computes for long is not lost, and answers afterwards', { timeout: 30_000 }, async () => {
    const { link, inbox, others } = await group(2)
    await sendNumbered(link, 1, 1, 100)
    await inbox.count(1)
    // Longer than it may be silent before others look.
    others[0]!.tell({ busyMs: 7000 })
    await others[0]!.until((said) => ('busy' in said ? true : undefined))
    const sentAt = performance.now()
    await sendNumbered(link, 1, 2, 100)
    await inbox.count(2)
    // It was silent for so long, or this test shows nothing.
    expect(performance.now() - sentAt).toBeGreaterThan(5000)
    expect(inbox.losses).toEqual([])
    expect(others.flatMap(({ said }) => said.filter((line) => 'lost' in line))).toEqual([])
  })

  it('that leaves is said to have left, to all', async () => {
    const { inbox, others } = await group(4)
    others[1]!.tell({ close: true })
    await Promise.all([inbox.loss(2), ...[0, 2, 3].map((at) => others[at]!.why(2))])
    expect(inbox.losses[0]!.error.message).toBe('Member 2 has left the group.')
  })
})

describe('a member that nobody reaches', () => {
  it('is lost, with what went wrong at each of its addresses', async () => {
    const free = createServer().listen(0, loopback[0])
    await new Promise((resolve) => free.once('listening', resolve))
    const { port } = free.address() as { port: number }
    await new Promise((resolve) => free.close(resolve))
    const own = await openMember({ addresses: loopback })
    const link = await own.join({ rank: 0, cards: [own.card, encodeCard({ addresses: [...loopback, 'no-such-host.invalid'], port })], key })
    cleanups.push(() => link.close())
    const inbox = inboxOf(link)
    const why = new RegExp(
      `^Member 1 cannot be reached: 127.0.0.1 port ${port}: nobody listens there; no-such-host.invalid port ${port}: .*`,
    )
    await expect(sendNumbered(link, 1, 1, 10)).rejects.toThrow(why)
    expect(inbox.losses).toMatchObject([{ rank: 1 }])
  })
})

describe('the watch over members', () => {
  it('looks for one that is silent, leaves it alone while its machine answers, and says when it does not', {
    timeout: 30_000,
  }, async () => {
    const server = createServer((socket) => cleanups.push(() => socket.destroy()))
    server.listen(0, loopback[0])
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    const card = { addresses: loopback, port }
    const pinged: number[] = []
    const gone = Promise.withResolvers<[number, string]>()
    const came = new Promise((resolve) => server.once('connection', resolve))
    const silent = { heardAt: performance.now() - 60_000, spokeAt: performance.now() - 60_000 }
    const watch = new Watch([card, card], {
      connections: () => [[1, silent]],
      ping: (rank) => pinged.push(rank),
      gone: (rank, why) => gone.resolve([rank, why]),
    })
    cleanups.push(() => watch.close())
    await came
    expect(pinged).toContain(1)
    server.close()
    for (const cleanup of cleanups.splice(1)) await cleanup()
    expect(await gone.promise).toEqual([1, `127.0.0.1 port ${port}: nobody listens there`])
  })
})

describe('members that are threads', () => {
  it('share memory, and one that ends is lost, after what it had sent', async () => {
    const broker = new Broker()
    const port = broker.port()
    const worker = new Worker(new URL('./member-thread.ts', import.meta.url), { workerData: { port }, transferList: [port] })
    cleanups.push(() => worker.terminate())
    const own: Member = await openMember({ addresses: [], broker: broker.port() })
    const card = await new Promise<Uint8Array>((resolve) => worker.once('message', resolve))
    const cards = [own.card, card]
    worker.postMessage({ rank: 1, cards, key })
    const link: Link = await own.join({ rank: 0, cards, key })
    cleanups.push(() => link.close())
    const inbox = inboxOf(link)
    const memory = new Int32Array((await link.shared('m', [0, 1], 64))!)
    for (const bytes of [0, 100, 3_000_000]) await sendNumbered(link, 1, bytes, bytes)
    await inbox.count(3)
    expect(inbox.messages.map(({ data }) => data.length)).toEqual([0, 100, 3_000_000])
    expect(memory[3]).toBe(77)
    // It answers, and ends itself in the same turn.
    await sendNumbered(link, 1, 9, 9)
    await inbox.loss(1)
    expect(inbox.losses).toEqual([{ rank: 1, error: new Error('Member 1 is gone: its thread ended.'), after: 4 }])
  })
})
