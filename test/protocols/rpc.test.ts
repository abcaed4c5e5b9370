import { afterEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { loopbackPair } from '../../node/loopback.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { MeshError } from '../../protocols/errors.ts'
import { clientSession, defineProtocol, type Handlers, serverSession } from '../../protocols/rpc.ts'
import type { Channel, Remote } from '../../protocols/wire.ts'

const protocol = defineProtocol({
  protocol: '/test/rpc/1',
  requires: [],
  maxFrameBytes: 1 << 20,
  maxInFlight: 3,
  timeoutMs: 60_000,
  server: {
    calls: {
      double: { request: z.object({ n: z.number().int() }), answer: z.object({ n: z.number().int() }) },
      wait: { request: z.object({}), answer: z.object({}) },
      fail: { request: z.object({ how: z.string() }), answer: z.object({}) },
      lie: { request: z.object({}), answer: z.object({ n: z.number() }) },
    },
    notes: { tick: z.object({ at: z.number() }) },
  },
  client: {
    calls: { name: { request: z.object({}), answer: z.object({ name: z.string() }) } },
    notes: { tock: z.object({ at: z.number() }) },
  },
})
type ServerHandlers = Handlers<typeof protocol.server>

const remote: Remote = { peer: 'peer-of-the-test', roles: ['worker'] }
const open: Channel[] = []

function pair(handlers: { server?: Partial<ServerHandlers['calls']>; tick?: (at: number) => void; tock?: (at: number) => void } = {}) {
  const [near, far] = loopbackPair(remote, protocol.maxFrameBytes)
  open.push(near, far)
  const client = clientSession(protocol, near, {
    calls: { name: () => ({ name: 'the client' }) },
    notes: { tock: ({ at }) => handlers.tock?.(at) },
  })
  const server = serverSession(protocol, far, {
    calls: {
      double: ({ n }) => ({ n: 2 * n }),
      wait: () => new Promise<Record<string, never>>(() => {}),
      fail: ({ how }) => {
        throw how === 'code' ? new MeshError('JobNotFound', 'There is no job x.') : new Error('a fault')
      },
      lie: () => ({ n: 'three' }) as unknown as { n: number },
      ...handlers.server,
    },
    notes: { tick: ({ at }) => handlers.tick?.(at) },
  })
  return { client, server, near, far }
}

/** A client that speaks in raw frames. */
function raw(handlers: Parameters<typeof pair>[0] = {}) {
  const [near, far] = loopbackPair(remote, protocol.maxFrameBytes)
  open.push(near, far)
  const answers: unknown[] = []
  const waiters: (() => void)[] = []
  near.receive((frame) => {
    answers.push(decode(frame))
    for (const wake of waiters.splice(0)) wake()
  })
  const server = serverSession(protocol, far, {
    calls: {
      double: ({ n }) => ({ n: 2 * n }),
      wait: () => new Promise<Record<string, never>>(() => {}),
      fail: () => ({}),
      lie: () => ({ n: 1 }),
      ...handlers.server,
    },
    notes: { tick: ({ at }) => handlers.tick?.(at) },
  })
  const answered = async (count: number) => {
    while (answers.length < count) await new Promise<void>((resolve) => waiters.push(resolve))
    return answers
  }
  return { near, server, answered }
}

async function refusal(promise: Promise<unknown>): Promise<[string, string]> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof MeshError)) throw new Error(`expected a refusal, got ${String(error)}`)
  return [error.code, error.message]
}

describe('a session', () => {
  afterEach(() => {
    for (const channel of open.splice(0)) channel.close()
  })

  it('answers calls of both ends, many at once', async () => {
    const { client, server } = pair()
    const answers = await Promise.all([1, 2, 3].map((n) => client.call('double', { n })))
    expect(answers).toEqual([{ n: 2 }, { n: 4 }, { n: 6 }])
    expect(await server.call('name', {})).toEqual({ name: 'the client' })
  })

  it('brings notes and requests in the order sent', async () => {
    const seen: string[] = []
    const { client } = pair({
      tick: (at) => seen.push(`tick ${at}`),
      server: {
        double: ({ n }) => {
          seen.push(`double ${n}`)
          return { n }
        },
      },
    })
    client.note('tick', { at: 1 })
    const answer = client.call('double', { n: 5 })
    client.note('tick', { at: 2 })
    await answer
    expect(seen).toEqual(['tick 1', 'double 5', 'tick 2'])
  })

  it('brings notes of the server to the client', async () => {
    const seen = Promise.withResolvers<number>()
    const { server } = pair({ tock: seen.resolve })
    server.note('tock', { at: 9 })
    expect(await seen.promise).toBe(9)
  })

  it('rejects a call with the code and the sentence of the refusal', async () => {
    const { client } = pair()
    expect(await refusal(client.call('fail', { how: 'code' }))).toEqual(['JobNotFound', 'There is no job x.'])
    expect((await refusal(client.call('fail', { how: 'throw' })))[0]).toBe('InternalError')
  })

  it('refuses a request that does not fit its schema, naming the member, and goes on', async () => {
    const { client } = pair()
    const [code, message] = await refusal(client.call('double', { n: 1.5 }))
    expect(code).toBe('InvalidRequestBody')
    expect(message).toContain('double: n')
    expect(await client.call('double', { n: 1 })).toEqual({ n: 2 })
  })

  it('rejects an answer that does not fit its schema', async () => {
    const { client } = pair()
    expect((await refusal(client.call('lie', {})))[0]).toBe('InvalidRequestBody')
  })

  it('rejects a call that is not answered in time', async () => {
    const { client } = pair()
    expect((await refusal(client.call('wait', {}, { timeoutMs: 1 })))[0]).toBe('OperationTimedOut')
  })

  it('rejects a call whose caller gives up, before or after it was sent', async () => {
    const { client } = pair()
    const abort = new AbortController()
    const waiting = refusal(client.call('wait', {}, { signal: abort.signal }))
    abort.abort()
    expect((await waiting)[0]).toBe('Aborted')
    expect((await refusal(client.call('double', { n: 1 }, { signal: abort.signal })))[0]).toBe('Aborted')
  })

  it('rejects calls that wait when the channel closes, tells their handlers, and refuses later ones', async () => {
    const handling = Promise.withResolvers<AbortSignal>()
    const { client, far } = pair({
      server: {
        wait: (_request, { signal }) => {
          handling.resolve(signal)
          return new Promise<Record<string, never>>(() => {})
        },
      },
    })
    const waiting = refusal(client.call('wait', {}))
    const signal = await handling.promise
    const told = new Promise((resolve) => signal.addEventListener('abort', resolve))
    far.close()
    expect((await waiting)[0]).toBe('Unreachable')
    await told
    expect(await client.closed).toBe('remote')
    expect(client.isClosed).toBe(true)
    expect((await refusal(client.call('double', { n: 1 })))[0]).toBe('Unreachable')
  })

  it('refuses a request or an answer larger than a frame, and goes on', async () => {
    const { client } = pair({ server: { fail: () => ({ padding: 'x'.repeat(2 << 20) }) as unknown as Record<string, never> } })
    await expect(client.call('fail', { how: '' })).rejects.toMatchObject({ code: 'FrameTooLarge' })
    await expect(client.call('fail', { how: 'x'.repeat(2 << 20) })).rejects.toMatchObject({ code: 'FrameTooLarge' })
    expect(await client.call('double', { n: 4 })).toEqual({ n: 8 })
  })

  it('answers ServerBusy to what is more than maxInFlight, and takes requests again later', async () => {
    const release = Promise.withResolvers<Record<string, never>>()
    const { client } = pair({ server: { wait: () => release.promise } })
    const waiting = [1, 2, 3].map(() => client.call('wait', {}))
    expect((await refusal(client.call('double', { n: 1 })))[0]).toBe('ServerBusy')
    release.resolve({})
    await Promise.all(waiting)
    expect(await client.call('double', { n: 1 })).toEqual({ n: 2 })
  })

  it('refuses an unknown request with UnsupportedVersion and skips an unknown note', async () => {
    const { near, answered } = raw()
    near.send(encode([3, 'later', {}]))
    near.send(encode([0, 1, 'later', {}]))
    near.send(encode([0, 2, 'double', { n: 4 }]))
    expect(await answered(2)).toEqual([
      [2, 1, 'UnsupportedVersion', 'This peer does not know the request later.'],
      [1, 2, { n: 8 }],
    ])
  })

  it('does not take a name that every object has for a request', async () => {
    const { near, answered } = raw()
    near.send(encode([0, 1, 'constructor', {}]))
    near.send(encode([0, 2, '__proto__', {}]))
    near.send(encode([3, 'toString', {}]))
    const answers = (await answered(2)) as unknown[][]
    expect(answers.map((answer) => answer[2])).toEqual(['UnsupportedVersion', 'UnsupportedVersion'])
  })

  it('ignores answers to what was never asked', async () => {
    const { near, answered } = raw()
    near.send(encode([1, 99, {}]))
    near.send(encode([2, 98, 'JobNotFound', 'x']))
    near.send(encode([0, 1, 'double', { n: 1 }]))
    expect(await answered(1)).toEqual([[1, 1, { n: 2 }]])
  })

  it.each([
    ['no MessagePack', new Uint8Array([0xc1])],
    ['an empty frame', new Uint8Array(0)],
    ['no array', encode({ a: 1 })],
    ['an unknown kind', encode([7, 1, 'double', {}])],
    ['a request without a number', encode([0, 'one', 'double', {}])],
    ['a request without a name', encode([0, 1, 2, {}])],
    ['a known note that does not fit', encode([3, 'tick', { at: 'noon' }])],
  ])('ends the channel for a frame that breaks the protocol: %s', async (_what, frame) => {
    const { near, server } = raw()
    near.send(frame)
    expect(await server.closed).toBe('protocol-error')
    expect(await near.closed).toBe('remote')
  })
})
