import { afterEach, describe, expect, it, vi } from 'vitest'
import { z } from 'zod'
import { encode } from '../../protocols/codec.ts'
import { FrameQueue } from '../../protocols/framing.ts'
import { defineProtocol, serverSession } from '../../protocols/rpc.ts'
import { type ByteDuplex, type DuplexEvents, StreamChannel } from '../../protocols/stream-channel.ts'

const remote = { peer: 'peer-of-the-test', roles: [] }

/** A stream whose other end is the test. */
class FakeDuplex implements ByteDuplex {
  events!: DuplexEvents
  written = 0
  paused = false
  destroyed = false
  /** Whether the other end reads. */
  takes = true
  listen(events: DuplexEvents): void {
    this.events = events
  }
  write(bytes: Uint8Array): boolean {
    this.written += bytes.length
    return this.takes
  }
  pause(): void {
    this.paused = true
  }
  resume(): void {
    this.paused = false
  }
  end(): void {}
  destroy(): void {
    this.destroyed = true
  }
  drain(): void {
    this.takes = true
    this.events.drain()
  }
}

function frames(...values: unknown[]): Uint8Array {
  const queue = new FrameQueue()
  for (const value of values) queue.push(encode(value))
  return queue.take(Number.MAX_SAFE_INTEGER)!
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

afterEach(() => {
  vi.useRealTimers()
})

describe('a channel over a stream', () => {
  function slow(maxFrameBytes = 1024) {
    vi.useFakeTimers()
    const duplex = new FakeDuplex()
    const channel = new StreamChannel(duplex, remote, maxFrameBytes)
    const received: Uint8Array[] = []
    channel.receive((frame) => received.push(frame))
    return { duplex, channel, received }
  }

  it('S1: ends when a frame that has begun is not whole within a minute', async () => {
    const { duplex, channel } = slow()
    duplex.events.data(new Uint8Array([0, 0, 1, 0]))
    for (let second = 0; second < 70; second += 1) {
      duplex.events.data(new Uint8Array([second]))
      vi.advanceTimersByTime(1000)
    }
    expect(await channel.closed).toBe('protocol-error')
    expect(duplex.destroyed).toBe(true)
  })

  it('gives a large frame the time that a slow line takes', () => {
    const { duplex, received } = slow(16 << 20)
    duplex.events.data(new Uint8Array([1, 0, 0, 0]))
    for (let second = 0; second < 1024; second += 1) {
      duplex.events.data(new Uint8Array(16 << 10))
      vi.advanceTimersByTime(1000)
    }
    expect(received.map((frame) => frame.length)).toEqual([16 << 20])
  })

  it('stands as long as it likes between two frames, and while frames follow each other', () => {
    const { duplex, received } = slow()
    for (let n = 0; n < 300; n += 1) {
      // The end of one frame and the beginning of the next.
      duplex.events.data(new Uint8Array(n === 0 ? [0, 0, 0, 2, 1] : [1, 0, 0, 0, 2, 1]))
      vi.advanceTimersByTime(1000)
    }
    duplex.events.data(new Uint8Array([1]))
    vi.advanceTimersByTime(86_400_000)
    expect(received).toHaveLength(300)
    expect(duplex.destroyed).toBe(false)
  })

  it('takes larger frames once that is allowed', () => {
    const { duplex, channel, received } = slow(16)
    duplex.events.data(frames('x'.repeat(10)))
    channel.allow(1024)
    duplex.events.data(frames('x'.repeat(100)))
    expect(received).toHaveLength(2)
  })
})

describe('a session whose peer does not read', () => {
  const protocol = defineProtocol({
    protocol: '/test/unread/1',
    requires: [],
    maxFrameBytes: 1 << 20,
    maxInFlight: 4,
    timeoutMs: 60_000,
    server: { calls: { big: { request: z.object({}), answer: z.object({ data: z.string() }) } }, notes: {} },
    client: { calls: {}, notes: { tick: z.object({}) } },
  })

  function start() {
    const duplex = new FakeDuplex()
    let served = 0
    const session = serverSession(protocol, new StreamChannel(duplex, remote, protocol.maxFrameBytes), {
      calls: {
        big: () => {
          served += 1
          return { data: 'x'.repeat(900_000) }
        },
      },
      notes: {},
    })
    return { duplex, session, served: () => served }
  }

  const asks = (count: number) => frames(...Array.from({ length: count }, (_, n) => [0, n + 1, 'big', {}]))

  it('S1: serves no more than may be in flight until what was answered has left', async () => {
    const { duplex, session, served } = start()
    duplex.takes = false
    for (let n = 0; n < 10; n += 1) {
      duplex.events.data(asks(3))
      await turn()
    }
    expect(session.isFull).toBe(true)
    expect(served()).toBeLessThanOrEqual(protocol.maxInFlight + 1)
    duplex.drain()
    await turn()
    expect(session.isFull).toBe(false)
    const before = served()
    duplex.events.data(asks(1))
    await turn()
    expect(served()).toBeGreaterThan(before)
  })

  it('S1: stops reading while refusals cannot leave', async () => {
    const { duplex } = start()
    duplex.takes = false
    duplex.events.data(asks(3))
    await turn()
    for (let n = 0; n < 2000 && !duplex.paused; n += 1) duplex.events.data(asks(100))
    expect(duplex.paused).toBe(true)
    duplex.drain()
    await turn()
    expect(duplex.paused).toBe(false)
  })
})
