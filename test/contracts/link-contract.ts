/** What every link must do (node/groups/link.ts), run against each implementation. */
import { afterEach, describe, expect, it } from 'vitest'
import type { Envelope, Link, Receiver } from '../../node/groups/link.ts'

export interface OpenedLinks {
  links: readonly Link[]
  /** Ends everything, also what broke. */
  stop(): Promise<void>
}

export interface LinkContract {
  /** Whether members share memory: all, none, or neighbours, where 0 and 1 do, 2 and 3, and so on. */
  shares: 'all' | 'none' | 'pairs'
  open: (size: number) => Promise<OpenedLinks>
}

export interface Message {
  from: number
  envelope: Envelope
  data: Uint8Array
}

/** Takes what comes, with a wait for the n-th. */
export class Inbox implements Receiver {
  readonly messages: Message[] = []
  readonly losses: { rank: number; error: Error; after: number }[] = []
  readonly #begun = new Map<number, Uint8Array>()
  #waiters: { isDone: () => boolean; resolve: () => void }[] = []

  begin(from: number, { bytes }: Envelope): Uint8Array {
    expect(this.#begun.has(from), 'a message begins within another one').toBe(false)
    const data = new Uint8Array(bytes)
    this.#begun.set(from, data)
    return data
  }

  end(from: number, envelope: Envelope, data: Uint8Array): void {
    expect(this.#begun.get(from)).toBe(data)
    this.#begun.delete(from)
    this.messages.push({ from, envelope, data })
    this.#look()
  }

  lost(rank: number, error: Error): void {
    this.losses.push({ rank, error, after: this.messages.length })
    this.#look()
  }

  count(count: number): Promise<void> {
    return this.#until(() => this.messages.length >= count)
  }

  loss(rank: number): Promise<void> {
    return this.#until(() => this.losses.some((loss) => loss.rank === rank))
  }

  from(rank: number): Message[] {
    return this.messages.filter(({ from }) => from === rank)
  }

  #until(isDone: () => boolean): Promise<void> {
    if (isDone()) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.push({ isDone, resolve }))
  }

  #look(): void {
    for (const waiter of this.#waiters) if (waiter.isDone()) waiter.resolve()
    this.#waiters = this.#waiters.filter(({ isDone }) => !isDone())
  }
}

export function inboxOf(link: Link): Inbox {
  const inbox = new Inbox()
  link.receive(inbox)
  return inbox
}

/** Bytes that tell their number. */
export function numbered(number: number, bytes: number): Uint8Array {
  const data = new Uint8Array(bytes)
  for (let at = 0; at < bytes; at += 1) data[at] = (number * 31 + at * 7 + (at >> 8)) & 0xff
  return data
}

export const envelope = (tag: number, data: Uint8Array, more: Partial<Envelope> = {}): Envelope => ({
  context: 2,
  tag,
  type: 0,
  bytes: data.length,
  ...more,
})

/** Sends, and waits until it has left. */
export async function sendNumbered(link: Link, to: number, number: number, bytes: number): Promise<void> {
  const data = numbered(number, bytes)
  await link.send(to, envelope(number, data), data)
}

const odd = [0, 1, 3, 24, 1000, 4097, 32_768, 32_769, 65_537, 262_143, 262_145, 1_000_003]

export function linkContract(name: string, { open, shares }: LinkContract): void {
  describe(name, () => {
    let opened: OpenedLinks | undefined
    const start = async (size: number) => {
      opened = await open(size)
      return opened.links
    }
    afterEach(async () => {
      await opened?.stop()
      opened = undefined
    })

    it('tells each member its rank and the size', async () => {
      const links = await start(3)
      expect(links.map(({ rank, size }) => [rank, size])).toEqual([
        [0, 3],
        [1, 3],
        [2, 3],
      ])
    })

    it('carries messages of every length whole, once, in the order sent', async () => {
      const links = await start(3)
      const [, near, far] = links.map(inboxOf)
      const sent = [...odd, ...[...odd].reverse()]
      const sends = sent.flatMap((bytes, number) => [sendNumbered(links[0]!, 1, number, bytes), sendNumbered(links[0]!, 2, number, bytes)])
      await Promise.all([near!.count(sent.length), far!.count(sent.length), ...sends])
      for (const inbox of [near!, far!]) {
        expect(inbox.messages.map(({ envelope: { tag, bytes } }) => [tag, bytes])).toEqual(sent.map((bytes, number) => [number, bytes]))
        for (const [number, { data }] of inbox.messages.entries()) expect(Buffer.compare(data, numbered(number, sent[number]!))).toBe(0)
      }
    })

    it('carries every number that an envelope may say', async () => {
      const links = await start(3)
      const inboxes = links.map(inboxOf)
      const data = numbered(1, 5)
      const said = { context: 2 ** 53 - 1, tag: 2 ** 31 - 1, type: 255, bytes: 5 }
      for (const to of [0, 1, 2]) await links[0]!.send(to, said, data)
      for (const inbox of inboxes) {
        await inbox.count(1)
        expect(inbox.messages).toEqual([{ from: 0, envelope: said, data }])
      }
    })

    it('carries messages of a member to itself like others, and never while it is sending', async () => {
      const [link] = await start(2)
      const inbox = inboxOf(link!)
      const data = numbered(1, 100_000)
      const sent = link!.send(0, envelope(1, data), data)
      expect(inbox.messages).toEqual([])
      await Promise.all([sent, sendNumbered(link!, 0, 2, 0), inbox.count(2)])
      expect(inbox.messages.map(({ from, envelope: { tag } }) => [from, tag])).toEqual([
        [0, 1],
        [0, 2],
      ])
      expect(Buffer.compare(inbox.messages[0]!.data, data)).toBe(0)
    })

    it('keeps what comes before anybody takes messages', async () => {
      const links = await start(3)
      inboxOf(links[0]!)
      const sends = [0, 1, 2].flatMap((number) => [1, 2].map((to) => sendNumbered(links[0]!, to, number, 70_000)))
      await new Promise((resolve) => setTimeout(resolve, 50))
      const inboxes = [links[1]!, links[2]!].map(inboxOf)
      await Promise.all([...sends, ...inboxes.map((inbox) => inbox.count(3))])
      for (const { messages } of inboxes) expect(messages.map(({ envelope: { tag } }) => tag)).toEqual([0, 1, 2])
    })

    it('has taken the bytes of a message once its send is done', async () => {
      const links = await start(3)
      const inboxes = links.map(inboxOf)
      for (const to of [1, 2]) {
        for (const [number, bytes] of odd.entries()) {
          const data = numbered(number, bytes)
          await links[0]!.send(to, envelope(number, data), data)
          data.fill(0xee)
        }
        await inboxes[to]!.count(odd.length)
        for (const [number, { data }] of inboxes[to]!.messages.entries())
          expect(Buffer.compare(data, numbered(number, odd[number]!))).toBe(0)
      }
    })

    it('lets all members send to all at once, small and large', async () => {
      const links = await start(5)
      const inboxes = links.map(inboxOf)
      const sizes = [10, 300_000, 0, 5000]
      const sends = links.flatMap((link) => links.flatMap((_, to) => sizes.map((bytes, number) => sendNumbered(link, to, number, bytes))))
      await Promise.all([...sends, ...inboxes.map((inbox) => inbox.count(5 * sizes.length))])
      for (const inbox of inboxes) {
        for (const { rank } of links)
          expect(inbox.from(rank).map(({ envelope: { tag, bytes } }) => [tag, bytes])).toEqual(
            sizes.map((bytes, number) => [number, bytes]),
          )
        expect(inbox.losses).toEqual([])
      }
    })

    it('does not stop where two members send each other more than all buffers hold', async () => {
      const links = await start(3)
      const inboxes = links.map(inboxOf)
      const pairs = [
        [0, 1],
        [1, 0],
        [0, 2],
        [2, 0],
      ] as const
      const bytes = 24 << 20
      await Promise.all([
        ...pairs.map(([from, to]) => sendNumbered(links[from]!, to, from, bytes)),
        ...[2, 1, 1].map((count, rank) => inboxes[rank]!.count(count)),
      ])
      for (const { messages } of inboxes) for (const { from, data } of messages) expect(Buffer.compare(data, numbered(from, bytes))).toBe(0)
    })

    it('tells a sender to wait when many small messages are on their way', async () => {
      const links = await start(3)
      for (const to of [1, 2]) {
        const data = numbered(0, 1000)
        let left = 20_000
        let waited: Promise<void> | undefined
        while (waited === undefined && left > 0) {
          left -= 1
          waited = links[0]!.send(to, envelope(left, data), data)
        }
        expect(left).toBeGreaterThan(0)
        const inbox = inboxOf(links[to]!)
        if (to === 1) inboxOf(links[0]!)
        await waited
        await inbox.count(20_000 - left)
      }
    })

    it('says that a member has left, once, after what it had sent', async () => {
      const links = await start(3)
      const inboxes = links.map(inboxOf)
      const sends = [1, 2].flatMap((to) => [0, 1, 2].map((number) => sendNumbered(links[0]!, to, number, 500_000)))
      await Promise.all([links[0]!.close(), ...sends, ...[1, 2].map((rank) => inboxes[rank]!.loss(0))])
      for (const inbox of [inboxes[1]!, inboxes[2]!]) {
        expect(inbox.losses).toEqual([{ rank: 0, error: new Error('Member 0 has left the group.'), after: 3 }])
      }
      await expect(sendNumbered(links[1]!, 0, 9, 10)).rejects.toThrow('Member 0 has left the group.')
      await sendNumbered(links[1]!, 2, 4, 10)
      await inboxes[2]!.count(4)
    })

    it('ends with all members at once', async () => {
      const links = await start(5)
      links.map(inboxOf)
      await Promise.all(links.map((link) => sendNumbered(link, (link.rank + 2) % 5, 1, 100)))
      await Promise.all(links.map((link) => link.close()))
    })

    it('refuses a length that is not that of the bytes', async () => {
      const [link] = await start(2)
      expect(() => link!.send(1, { context: 0, tag: 0, type: 0, bytes: 3 }, new Uint8Array(2))).toThrow(RangeError)
    })

    it('gives memory that all see where all are in one process, zeroed and by its name, and none elsewhere', async () => {
      const links = await start(4)
      const ask = (name: string, ranks: number[]) => Promise.all(ranks.map((rank) => links[rank]!.shared(name, ranks, 64)))
      const [near, again, wide] = [await ask('a', [0, 1]), await ask('a', [0, 1]), await ask('a', [0, 1, 2, 3])]
      const both = shares !== 'none'
      for (const got of [near, again]) expect(got.map((memory) => memory?.byteLength)).toEqual(both ? [64, 64] : [undefined, undefined])
      expect(wide.map((memory) => memory?.byteLength)).toEqual(new Array(4).fill(shares === 'all' ? 64 : undefined))
      if (!both) return
      new Uint8Array(near[0]!)[7] = 9
      expect(new Uint8Array(near[1]!)[7]).toBe(9)
      expect(new Uint8Array(again[0]!)[7]).toBe(0)
      expect(await links[0]!.shared('own', [0], 8)).toBeInstanceOf(SharedArrayBuffer)
    })

    if (shares !== 'none') {
      it('refuses shared memory of another size than the first that asked', async () => {
        const links = await start(2)
        const asked = [links[0]!.shared('m', [0, 1], 64), links[1]!.shared('m', [0, 1], 32)]
        const results = await Promise.allSettled(asked)
        expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
      })
    }
  })
}
