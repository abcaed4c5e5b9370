/** What every channel and every wire must do (protocols/wire.ts), run against each implementation. */
import { afterEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import type { Channel, Role, Service, Wire } from '../../protocols/wire.ts'

export const contractService: Service = { protocol: '/test/contract/1', requires: [], maxFrameBytes: 4 << 20 }

export interface ChannelPair {
  near: Channel
  far: Channel
  /** Ends everything, also what broke. */
  stop(): Promise<void>
}

/** Frames as they come, with a wait for the n-th. */
export class Inbox {
  readonly frames: Uint8Array[] = []
  bytes = 0
  #waiters: { count: number; resolve: () => void }[] = []

  constructor(channel: Channel) {
    channel.receive((frame) => {
      this.frames.push(frame)
      this.bytes += frame.length
      this.#waiters = this.#waiters.filter(({ count, resolve }) => {
        if (this.frames.length < count) return true
        resolve()
        return false
      })
    })
  }

  count(count: number): Promise<void> {
    if (this.frames.length >= count) return Promise.resolve()
    return new Promise((resolve) => this.#waiters.push({ count, resolve }))
  }
}

/** A frame of this many bytes that tells its number. */
export function numbered(number: number, bytes = 8): Uint8Array {
  const frame = new Uint8Array(bytes).fill(number & 0xff)
  new DataView(frame.buffer).setUint32(0, number)
  return frame
}

export function numberOf(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset).getUint32(0)
}

/** Lets everything that is under way in this process come to rest. */
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

export function describeChannel(name: string, open: (service: Service) => Promise<ChannelPair>): void {
  describe(`the channel: ${name}`, () => {
    let pair: ChannelPair | undefined
    const opened = async (service: Service = contractService) => {
      pair = await open(service)
      return pair
    }
    afterEach(async () => {
      await pair?.stop()
      pair = undefined
    })

    it('carries frames whole and in order, both ways', async () => {
      const { near, far } = await opened()
      const atFar = new Inbox(far)
      const atNear = new Inbox(near)
      const sizes = [4, 5, 100, 65_536, 300_000, 4, 1_000_000, 17]
      for (const [at, bytes] of sizes.entries()) {
        near.send(numbered(at, bytes))
        far.send(numbered(at + 100, bytes))
      }
      await Promise.all([atFar.count(sizes.length), atNear.count(sizes.length)])
      expect(atFar.frames.map((frame) => [numberOf(frame), frame.length])).toEqual(sizes.map((bytes, at) => [at, bytes]))
      expect(atNear.frames.map((frame) => [numberOf(frame), frame.length])).toEqual(sizes.map((bytes, at) => [at + 100, bytes]))
      expect(atFar.frames.every((frame) => frame.at(-1) === (frame.length > 4 ? numberOf(frame) : frame[3]))).toBe(true)
    })

    it('carries a frame whose end lies elsewhere as one', async () => {
      const { near, far } = await opened()
      const atFar = new Inbox(far)
      near.send(numbered(1))
      near.send(numbered(2, 12), new Uint8Array(200_000).fill(7))
      near.send(numbered(3))
      await atFar.count(3)
      expect(atFar.frames.map((frame) => [numberOf(frame), frame.length, frame.at(-1)])).toEqual([
        [1, 8, 1],
        [2, 200_012, 7],
        [3, 8, 3],
      ])
    })

    it('carries an empty frame', async () => {
      const { near, far } = await opened()
      const inbox = new Inbox(far)
      near.send(new Uint8Array(0))
      near.send(numbered(1))
      await inbox.count(2)
      expect(inbox.frames.map((frame) => frame.length)).toEqual([0, 8])
    })

    it('keeps frames that come before there is a receiver', async () => {
      const { near, far } = await opened()
      const back = new Inbox(near)
      for (let at = 0; at < 100; at += 1) near.send(numbered(at))
      far.send(numbered(0))
      await back.count(1)
      await turns(20)
      const inbox = new Inbox(far)
      await inbox.count(100)
      expect(inbox.frames.map(numberOf)).toEqual(Array.from({ length: 100 }, (_, at) => at))
    })

    it('never calls the receiver while paused, and nested pauses count', async () => {
      const { near, far } = await opened()
      const back = new Inbox(near)
      const inbox = new Inbox(far)
      far.pause()
      far.pause()
      near.send(numbered(1))
      far.send(numbered(0))
      await back.count(1)
      far.resume()
      await turns(20)
      expect(inbox.frames.length).toBe(0)
      far.resume()
      await inbox.count(1)
      expect(inbox.frames.map(numberOf)).toEqual([1])
    })

    it('hands over one frame at a time to a receiver that pauses in between', async () => {
      const { near, far } = await opened()
      const seen: number[] = []
      const done = Promise.withResolvers<void>()
      let busy = false
      far.receive((frame) => {
        expect(busy).toBe(false)
        busy = true
        far.pause()
        setImmediate(() => {
          seen.push(numberOf(frame))
          busy = false
          if (seen.length === 50) done.resolve()
          far.resume()
        })
      })
      for (let at = 0; at < 50; at += 1) near.send(numbered(at))
      await done.promise
      expect(seen).toEqual(Array.from({ length: 50 }, (_, at) => at))
    })

    it('asks a sender to wait for a reader that pauses, and carries 64 MB to it whole', async () => {
      const { near, far } = await opened()
      const inbox = new Inbox(far)
      far.pause()
      const frames = 256
      const frameBytes = 256 << 10
      let sent = 0
      const sending = (async () => {
        for (let at = 0; at < frames; at += 1) {
          sent += frameBytes
          if (!near.send(numbered(at, frameBytes))) await near.drained()
        }
      })()
      await turns(200)
      // Queue, stream window and buffers of the system; by no means all.
      expect(sent).toBeLessThan(16 << 20)
      expect(inbox.frames.length).toBe(0)
      // A reader that goes on and off.
      const blink = setInterval(() => {
        far.pause()
        setImmediate(() => far.resume())
      }, 1)
      far.resume()
      await sending
      await inbox.count(frames)
      clearInterval(blink)
      expect(inbox.bytes).toBe(frames * frameBytes)
      expect(inbox.frames.map(numberOf)).toEqual(Array.from({ length: frames }, (_, at) => at))
    })

    it('delivers what was sent before a close, then says that the remote closed', async () => {
      const { near, far } = await opened()
      for (let at = 0; at < 300; at += 1) near.send(numbered(at, 10_000))
      near.close()
      expect(await near.closed).toBe('local')
      await turns(20)
      const inbox = new Inbox(far)
      expect(await far.closed).toBe('remote')
      expect(inbox.frames.map(numberOf)).toEqual(Array.from({ length: 300 }, (_, at) => at))
    })

    it('takes no frame and calls no receiver once it is closed', async () => {
      const { near, far } = await opened()
      const inbox = new Inbox(near)
      near.close()
      far.send(numbered(1))
      expect(near.send(numbered(2))).toBe(false)
      await near.drained()
      await far.closed
      await turns(20)
      expect(inbox.frames.length).toBe(0)
    })

    it('wakes a sender that waits when the other side closes', async () => {
      const { near, far } = await opened()
      far.receive(() => far.close())
      far.pause()
      while (near.send(numbered(1, 1 << 18)));
      const drained = near.drained()
      far.resume()
      await drained
      expect(['remote', 'lost']).toContain(await near.closed)
    })

    it('rejects a wait for room when its signal aborts', async () => {
      const { near, far } = await opened()
      far.pause()
      while (near.send(numbered(1, 1 << 18)));
      const abort = new AbortController()
      const drained = near.drained({ signal: abort.signal })
      abort.abort(new Error('enough'))
      await expect(drained).rejects.toThrow('enough')
    })

    it('ends with a protocol error instead of sending a frame over the limit', async () => {
      const { near, far } = await opened({ ...contractService, maxFrameBytes: 1024 })
      new Inbox(far)
      near.send(numbered(1, 1025))
      expect(await near.closed).toBe('protocol-error')
      expect(['remote', 'lost', 'protocol-error']).toContain(await far.closed)
    })
  })
}

export interface WirePair {
  a: Wire
  b: Wire
  /** A peer id at which nobody is, and where it would be dialled. */
  nobody: { peer: string; addresses: readonly string[] }
  /** Roles that `b` has shown to `a`, and `a` to `b`. */
  roles: { a: readonly Role[]; b: readonly Role[] }
  stop(): Promise<void>
}

export function describeWire(name: string, start: () => Promise<WirePair>): void {
  describe(`the wire: ${name}`, () => {
    let pair: WirePair | undefined
    const started = async () => {
      pair = await start()
      return pair
    }
    afterEach(async () => {
      await pair?.stop()
      pair = undefined
    })
    const code = async (promise: Promise<unknown>) => {
      const error = await promise.then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
      return error instanceof MeshError ? error.code : error
    }

    it('opens a channel to another peer and names it with its roles at both ends', async () => {
      const { a, b, roles } = await started()
      const accepted = Promise.withResolvers<Channel>()
      b.serve(contractService, accepted.resolve)
      const near = await a.open(b.peer, contractService)
      const far = await accepted.promise
      expect(near.remote).toEqual({ peer: b.peer, roles: roles.b })
      expect(far.remote).toEqual({ peer: a.peer, roles: roles.a })
      const inbox = new Inbox(far)
      near.send(numbered(7))
      await inbox.count(1)
      expect(inbox.frames.map(numberOf)).toEqual([7])
    })

    it('opens channels both ways over whatever connection there is', async () => {
      const { a, b } = await started()
      a.serve(contractService, (channel) => channel.receive((frame) => channel.send(frame)))
      b.serve(contractService, (channel) => channel.receive((frame) => channel.send(frame)))
      const [there, back] = [await a.open(b.peer, contractService), await b.open(a.peer, contractService)]
      const inboxes = [new Inbox(there), new Inbox(back)]
      there.send(numbered(1))
      back.send(numbered(2))
      await Promise.all(inboxes.map((inbox) => inbox.count(1)))
      expect(inboxes.map((inbox) => inbox.frames.map(numberOf))).toEqual([[1], [2]])
    })

    it('opens a channel to itself', async () => {
      const { a, roles } = await started()
      const accepted = Promise.withResolvers<Channel>()
      a.serve(contractService, accepted.resolve)
      const near = await a.open(a.peer, contractService)
      const far = await accepted.promise
      expect([near.remote, far.remote]).toEqual([
        { peer: a.peer, roles: roles.a },
        { peer: a.peer, roles: roles.a },
      ])
      const inbox = new Inbox(far)
      near.send(numbered(3))
      await inbox.count(1)
      expect(inbox.frames.map(numberOf)).toEqual([3])
    })

    it('refuses a protocol that is not served, or not any more, with UnsupportedVersion', async () => {
      const { a, b } = await started()
      expect(await code(a.open(b.peer, contractService))).toBe('UnsupportedVersion')
      const stop = b.serve(contractService, () => {})
      await a.open(b.peer, contractService)
      stop()
      expect(await code(a.open(b.peer, contractService))).toBe('UnsupportedVersion')
      expect(await code(a.open(a.peer, contractService))).toBe('UnsupportedVersion')
    })

    it('S1: refuses a service that needs a role which the certificate does not give', async () => {
      const { a, b, roles } = await started()
      const missing = (['worker', 'coordinator', 'submitter', 'admin'] as const).filter((role) => !roles.a.includes(role))
      const held = roles.a[0]!
      let opened = 0
      const needsMissing: Service = { ...contractService, requires: missing.slice(0, 1) }
      b.serve(needsMissing, () => {
        opened += 1
      })
      expect(await code(a.open(b.peer, needsMissing))).toBe('InsufficientPermissions')
      expect(opened).toBe(0)
      const needsEither: Service = { protocol: '/test/either/1', requires: [missing[0]!, held], maxFrameBytes: 1024 }
      b.serve(needsEither, () => {
        opened += 1
      })
      await a.open(b.peer, needsEither)
      expect(opened).toBe(1)
    })

    it('rejects with Unreachable for a peer that nobody knows or that is not there', async () => {
      const { a, nobody } = await started()
      expect(await code(a.open(nobody.peer, contractService))).toBe('Unreachable')
      expect(a.addresses(nobody.peer)).toEqual([])
      a.learn(nobody.peer, nobody.addresses)
      expect(a.addresses(nobody.peer)).toHaveLength(nobody.addresses.length)
      expect(await code(a.open(nobody.peer, contractService))).toBe('Unreachable')
    })

    it('rejects with Aborted when the caller gives up', async () => {
      const { a, b } = await started()
      expect(await code(a.open(b.peer, contractService, { signal: AbortSignal.abort() }))).toBe('Aborted')
    })

    it('probes: alive where the process is, refused where its machine says that nobody listens, unknown without an address', async () => {
      const { a, b, nobody } = await started()
      expect(await a.probe(b.peer)).toBe('alive')
      expect(await a.probe(a.peer)).toBe('alive')
      expect(await a.probe(nobody.peer)).toBe('unknown')
      a.learn(nobody.peer, nobody.addresses)
      expect(await a.probe(nobody.peer)).toBe('refused')
    })

    it('G1: brings gossip to subscribers, the publisher included, with who it is from', async () => {
      const { a, b } = await started()
      const at = { a: [] as string[], b: [] as string[] }
      const both = Promise.withResolvers<void>()
      const note = (list: string[]) => (data: Uint8Array, from: string) => {
        list.push(`${new TextDecoder().decode(data)} from ${from}`)
        if (at.a.length > 0 && at.b.length > 0) both.resolve()
      }
      a.subscribe('/test/topic', note(at.a))
      const stop = b.subscribe('/test/topic', note(at.b))
      // Subscriptions take a while to get about, and gossip may be lost: a hint is repeated.
      const repeat = setInterval(() => a.publish('/test/topic', new TextEncoder().encode('hello')), 50)
      await both.promise
      clearInterval(repeat)
      expect(new Set([...at.a, ...at.b])).toEqual(new Set([`hello from ${a.peer}`]))
      stop()
    })
  })
}
