/** Messages between members: which receive gets which, what waits where, and what is taken back. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type TypedArray, typeOf } from '../../../node/groups/datatypes.ts'
import type { Message } from '../../../node/groups/group.ts'
import type { Link, Receiver } from '../../../node/groups/link.ts'
import { openGroup } from '../../../node/groups/open.ts'
import { expectSame, filled, lab, outcomes, quiet, run, types } from './lab.ts'

/** Longer than what comes unasked. */
const long = 100_000

describe('order', () => {
  it('messages of one member with one tag are received as they were sent, short and long ones mixed', () =>
    fc.assert(
      fc.asyncProperty(fc.nat(1e9), fc.array(fc.tuple(fc.nat(2), fc.boolean()), { minLength: 1, maxLength: 30 }), async (seed, sent) => {
        const got = await run(
          3,
          async (group) => {
            if (group.rank > 0) {
              const sends = sent.map(([tag, isLong], index) => group.isend(new Uint32Array(isLong ? long : 1).fill(index), 0, { tag }))
              await Promise.all(sends.map((send) => send.done))
              return []
            }
            // By tag from rank 1, in any order from rank 2.
            const byTag = [2, 0, 1].flatMap((tag) => sent.flatMap(([of], index) => (of === tag ? [{ tag, index }] : [])))
            const first: number[] = []
            const second: number[] = []
            for (const { tag } of byTag) first.push((await group.recv<Uint32Array>({ from: 1, tag })).data[0]!)
            for (const _ of sent) second.push((await group.recv<Uint32Array>({ from: 2 })).data[0]!)
            expect(first).toEqual(byTag.map(({ index }) => index))
            return second
          },
          { seed },
        )
        expect(got[0]).toEqual(sent.map((_, index) => index))
      }),
      { numRuns: 60 },
    ))

  it('receives that were posted first get what was sent first', () =>
    fc.assert(
      fc.asyncProperty(fc.nat(1e9), fc.integer({ min: 1, max: 20 }), async (seed, count) => {
        const [, got] = await run(
          2,
          async (group) => {
            const indexes = Array.from({ length: count }, (_, index) => index)
            if (group.rank === 1) {
              const requests = indexes.map((index) =>
                group.irecv({ from: 0, tag: index % 3 === 0 ? 'any' : 7, into: new Float64Array(index % 2 === 0 ? long : 20_000) }),
              )
              return (await Promise.all(requests.map((request) => request.done))).map(({ data }) => data[0])
            }
            await Promise.all(indexes.map((index) => group.send(new Float64Array(index % 2 === 0 ? 15_000 : 3).fill(index), 1, { tag: 7 })))
            return []
          },
          { seed },
        )
        expect(got).toEqual(Array.from({ length: count }, (_, index) => index))
      }),
      { numRuns: 40 },
    ))

  it('a receive from any member takes what came first: nobody who sends much keeps others waiting', async () => {
    const { network, groups } = lab(3)
    for (let index = 0; index < 50; index += 1) groups[1]!.isend(index, 0)
    await quiet(network)
    groups[2]!.isend('of 2', 0)
    await quiet(network)
    for (let index = 0; index < 50; index += 1) groups[1]!.isend(index, 0)
    await quiet(network)
    const order: number[] = []
    for (let index = 0; index < 101; index += 1) order.push((await groups[0]!.recv()).from)
    expect(order.indexOf(2)).toBe(50)
  })
})

describe('arrays', () => {
  it('of each type arrive as they were sent, in the array that waits, a new one, or one that is longer', () =>
    fc.assert(
      fc.asyncProperty(fc.nat(1e9), fc.constantFrom(...types), fc.constantFrom(0, 1, 33, 70_001), async (seed, type, length) => {
        const given = filled(type, length, seed)
        await run(
          2,
          async (group) => {
            if (group.rank === 0) {
              for (let index = 0; index < 3; index += 1) await group.send(given, 1, { tag: index })
              return
            }
            const into = new type(length)
            const longer = new type(length + 5)
            const got = await Promise.all([group.recv({ tag: 0, into }), group.recv({ tag: 1 }), group.recv({ tag: 2, into: longer })])
            expect(got[0].data).toBe(into)
            for (const { data, from } of got) {
              expectSame(data, given)
              expect(from).toBe(0)
            }
            if (length > 0) expect(got[2].data.buffer).toBe(longer.buffer)
          },
          { seed },
        )
      }),
      { numRuns: 60 },
    ))

  it('that are parts of others, and Buffers, are sent as what they show', async () => {
    const [, got] = await run(2, async (group) => {
      if (group.rank === 0) {
        await group.send(Float64Array.of(1, 2, 3, 4).subarray(1, 3), 1)
        await group.send(Buffer.from('mesh'), 1)
        return []
      }
      return [(await group.recv()).data, (await group.recv()).data]
    })
    expect(got).toEqual([Float64Array.of(2, 3), new Uint8Array(Buffer.from('mesh'))])
  })

  it('that are too long, or of another type, are refused by name and wait for another receive', async () => {
    await run(2, async (group) => {
      if (group.rank === 0) {
        await group.send(Float64Array.of(1, 2, 3), 1, { tag: 5 })
        await group.send(new Float64Array(long), 1, { tag: 6 })
        return
      }
      await expect(group.recv({ tag: 5, into: new Float64Array(2) })).rejects.toMatchObject({
        code: 'Truncated',
        rank: 0,
        message: 'The message from rank 0, tag 5, has 3 elements, but into has room for 2. It waits for another receive.',
      })
      await expect(group.recv({ tag: 5, into: new Float32Array(3) })).rejects.toMatchObject({
        code: 'DatatypeMismatch',
        message: 'The message from rank 0, tag 5, is Float64Array, but into is a Float32Array. It waits for another receive.',
      })
      expect((await group.recv({ tag: 5 })).data).toEqual(Float64Array.of(1, 2, 3))
      await expect(group.recv({ tag: 6, into: new Float64Array(long - 1) })).rejects.toMatchObject({ code: 'Truncated' })
      expect((await group.recv<Float64Array>({ tag: 6, into: new Float64Array(long) })).data).toHaveLength(long)
    })
  })
})

describe('memory', () => {
  it('of a long array is not taken at the receiver before somebody asks for it', async () => {
    const { network, groups } = lab(2)
    const send = groups[0]!.isend(new Uint8Array(long), 1)
    expect(await outcomes(network, [send.done])).toEqual(['hangs'])
    expect(network.bytes).toBeLessThan(100)
    expect(groups[1]!.iprobe()).toEqual({ from: 0, tag: 0, count: long, type: 'Uint8Array' })
    expect(await outcomes<unknown>(network, [send.done, groups[1]!.recv()])).toMatchObject([{ value: undefined }, { value: { from: 0 } }])
  })

  it('of short messages that nobody receives is bounded: further ones wait at their sender', async () => {
    const { network, groups } = lab(2)
    const sends = Array.from({ length: 100 }, (_, index) => groups[0]!.isend(new Uint8Array(50_000).fill(index), 1))
    await outcomes(
      network,
      sends.map((send) => send.done),
    )
    expect(sends.filter((send) => send.test())).toHaveLength(20)
    expect(network.bytes).toBeLessThan(1.1 * 2 ** 20)
    const got = await outcomes(
      network,
      sends.map(() => groups[1]!.recv<Uint8Array>()),
    )
    expect(got.map((one) => (one as { value: Message<Uint8Array> }).value.data[0])).toEqual(sends.map((_, index) => index))
    // What was taken may be sent anew.
    const later = Array.from({ length: 10 }, () => groups[0]!.isend(new Uint8Array(50_000), 1))
    await outcomes(
      network,
      later.map((send) => send.done),
    )
    expect(later.every((send) => send.test())).toBe(true)
  })

  it('of what is sent may be changed once send has resolved', () =>
    fc.assert(
      fc.asyncProperty(fc.nat(1e9), fc.constantFrom(1, 1000, long), async (seed, length) => {
        await run(
          2,
          async (group) => {
            const array = new Int32Array(length)
            for (let round = 1; round <= 5; round += 1) {
              if (group.rank === 0) await group.send(array.fill(round), 1)
              else expect((await group.recv<Int32Array>()).data.every((element) => element === round)).toBe(true)
            }
          },
          { seed },
        )
      }),
      { numRuns: 30 },
    ))
})

describe('probe', () => {
  it('tells of a message that the next receive gets, and waits for one', async () => {
    await run(2, async (group) => {
      if (group.rank === 0) {
        await group.recv()
        await group.send({ text: 'x' }, 1, { tag: 3 })
        await group.send(Int16Array.of(1, 2), 1, { tag: 4 })
        return
      }
      expect(group.iprobe()).toBeUndefined()
      await group.send(null, 0)
      const status = await group.probe({ from: 'any', tag: 4 })
      expect(status).toEqual({ from: 0, tag: 4, count: 2, type: 'Int16Array' })
      expect(await group.probe()).toMatchObject({ from: 0, tag: 3, type: 'value' })
      expect((await group.recv(status)).data).toEqual(Int16Array.of(1, 2))
      expect((await group.recv({ from: 0 })).data).toEqual({ text: 'x' })
    })
  })
})

describe('giving up', () => {
  it('a receive that is cancelled or aborted at any moment loses no message', () =>
    fc.assert(
      fc.asyncProperty(
        fc.nat(1e9),
        fc.array(fc.record({ turns: fc.nat(6), hasInto: fc.boolean(), isAborted: fc.boolean() }), { minLength: 1, maxLength: 12 }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 12 }),
        async (seed, givenUp, sent) => {
          const { network, groups } = lab(2, { seed })
          const [sender, receiver] = [groups[0]!, groups[1]!]
          const sends = sent.map((isLong, index) => sender.isend(new Float64Array(isLong ? 20_000 : 50).fill(index), 1))
          const got: number[] = []
          const intos: Float64Array[] = []
          for (const { turns, hasInto, isAborted } of givenUp) {
            const abort = new AbortController()
            const into = hasInto ? new Float64Array(20_000) : undefined
            const request = receiver.irecv({ into: into as Float64Array, signal: abort.signal })
            for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate)
            if (isAborted) abort.abort(new Error('enough'))
            else request.cancel()
            await request.done.then(
              ({ data }) => got.push(data[0]!),
              (error) => expect(error).toMatchObject(isAborted ? { message: 'enough' } : { code: 'Cancelled' }),
            )
            if (into === undefined) continue
            intos.push(into)
            if (turns % 2 === 1) continue
            await quiet(network)
            into.fill(-1)
          }
          await quiet(network)
          for (const into of intos) into.fill(-1)
          while (got.length < sent.length) {
            const [one] = await outcomes(network, [receiver.recv<Float64Array>()])
            const { data } = (one as { value: Message<Float64Array> }).value
            expect(data.every((element) => element === data[0])).toBe(true)
            got.push(data[0]!)
          }
          expect(got).toEqual(sent.map((_, index) => index))
          expect(
            (
              await outcomes(
                network,
                sends.map((send) => send.done),
              )
            ).every((one) => one !== 'hangs' && 'value' in one),
          ).toBe(true)
          expect(receiver.iprobe()).toBeUndefined()
        },
      ),
      { numRuns: 150 },
    ))

  it('a message that had begun to come into the array of a receive that was given up goes whole to the next one', async () => {
    let receiver: Receiver | undefined
    const nothing = async () => undefined
    const receive = (one: Receiver) => {
      receiver = one
    }
    const link: Link = { rank: 0, size: 2, receive, send: () => undefined, shared: nothing, close: nothing }
    const group = openGroup(link)
    const into = new Uint8Array(3)
    const request = group.irecv({ into })
    const envelope = { context: 2, tag: 0, type: typeOf(into), bytes: 3 }
    const target = receiver!.begin(1, envelope)
    target.set([1, 2])
    expect(target.buffer).toBe(into.buffer)
    expect(request.cancel()).toBe(true)
    // Another one has it for a moment.
    expect(group.irecv().cancel()).toBe(true)
    target[2] = 3
    receiver!.end(1, envelope, target)
    into.fill(9)
    expect((await group.recv()).data).toEqual(Uint8Array.of(1, 2, 3))
  })

  it('a long message that is taken back before somebody asked for it was never sent', () =>
    fc.assert(
      fc.asyncProperty(fc.nat(1e9), fc.nat(8), async (seed, turns) => {
        const { network, groups } = lab(2, { seed })
        const first = groups[0]!.isend(new Float64Array(long).fill(1), 1)
        const receive = groups[1]!.irecv<Float64Array>()
        for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate)
        const isBack = first.cancel()
        const second = groups[0]!.isend(new Float64Array(long).fill(2), 1)
        const [got, sent] = await outcomes<unknown>(network, [receive.done, first.done])
        expect(got).toMatchObject({ value: { from: 0 } })
        expect((got as { value: Message<Float64Array> }).value.data[0]).toBe(isBack ? 2 : 1)
        expect(sent).toMatchObject(isBack ? { error: { code: 'Cancelled' } } : { value: undefined })
        if (!isBack) expect(await outcomes<unknown>(network, [groups[1]!.recv(), second.done])).toMatchObject([{ value: { from: 0 } }, {}])
      }),
      { numRuns: 60 },
    ))

  it('what waits too long says what it waited for', async () => {
    const { groups } = lab(3)
    await expect(groups[0]!.recv({ from: 2, tag: 5, timeoutMs: 5 })).rejects.toMatchObject({
      code: 'TimedOut',
      message: 'recv from rank 2, tag 5: nothing in 5 ms.',
    })
    await expect(groups[0]!.recv({ timeoutMs: 5 })).rejects.toThrow('recv from any rank, any tag: nothing in 5 ms.')
    await expect(groups[0]!.probe({ timeoutMs: 5 })).rejects.toMatchObject({ code: 'TimedOut' })
    await expect(groups[0]!.send(new Uint8Array(long), 1, { timeoutMs: 5 })).rejects.toThrow('send to rank 1, tag 0: nothing in 5 ms.')
    await expect(groups[0]!.sendrecv(1, 1, { from: 2, timeoutMs: 5 })).rejects.toMatchObject({ code: 'TimedOut' })
    const reason = new Error('enough')
    await expect(groups[0]!.recv({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
  })
})

it('wrong arguments are named', async () => {
  const { groups } = lab(2)
  const group = groups[0]!
  await expect(group.send(1, 2)).rejects.toThrow('to is 2: give a rank from 0 to 1.')
  await expect(group.send(1, 1, { tag: -1 })).rejects.toThrow('tag is -1: give a whole number from 0 to 2147483647.')
  await expect(group.send(() => 1, 1)).rejects.toThrow('1 could not be cloned. Send typed arrays, or what structuredClone takes.')
  await expect(group.recv({ from: 1.5 })).rejects.toThrow('from is 1.5: give a rank from 0 to 1.')
  await expect(group.recv({ into: [] as never })).rejects.toThrow('into is no typed array')
  await expect(group.recv({ timeoutMs: Number.NaN })).rejects.toThrow('timeoutMs is NaN: give milliseconds from 0 on.')
})

it('members send to themselves', async () => {
  await run(1, async (group) => {
    const array = new Float64Array(long).fill(3) as TypedArray
    const [message] = await Promise.all([group.recv({ from: 0 }), group.send(array, 0)])
    expectSame(message.data, array)
    expect((await group.sendrecv('self', 0, { from: 0 })).data).toBe('self')
  })
})
