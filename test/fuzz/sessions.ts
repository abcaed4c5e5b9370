/** Peers that say wrong things in each conversation: the session refuses or ends it, and hands on only what fits. */
import assert from 'node:assert/strict'
import { encode } from '../../protocols/codec.ts'
import { type Protocol, Session } from '../../protocols/rpc.ts'
import type { Channel, CloseReason } from '../../protocols/wire.ts'
import { kinds, protocols, sample } from '../protocols/golden-0.1/samples.ts'
import { type Dice, spoilBytes, spoilValue } from './dice.ts'
import type { Target } from './target.ts'

/** A message of every kind, whole: what is spoilt, by the end that hears it. */
const messages = new Map<string, { wrap: (body: unknown) => unknown; body: unknown }[]>()
for (const { id, schema, wrap } of kinds()) {
  const [protocol, end] = id.split(' ')
  const key = `${protocol} ${end}`
  messages.set(key, [...(messages.get(key) ?? []), { wrap, body: sample(schema) }])
}

/** One end of nothing: keeps what is sent, and knows whether it was closed. */
class Loose implements Channel {
  readonly remote = { peer: '12D3KooWEtWt4bZJDB74GaFt8gaUqsYdujpY7UcZ7d3PdzhcqH9A', roles: ['worker', 'submitter', 'admin'] as never }
  readonly #closing = Promise.withResolvers<CloseReason>()
  readonly closed = this.#closing.promise
  reason: CloseReason | undefined
  sent = 0
  deliver: (frame: Uint8Array) => void = () => {}

  send(): boolean {
    this.sent += 1
    return true
  }
  async drained(): Promise<void> {}
  pause(): void {}
  resume(): void {}
  receive(handler: (frame: Uint8Array) => void): void {
    this.deliver = handler
  }
  close(reason: CloseReason = 'local'): void {
    this.reason ??= reason
    this.#closing.resolve(reason)
  }
}

function frameFor(dice: Dice, protocol: Protocol, end: 'client' | 'server'): Uint8Array {
  const told = messages.get(`${protocol.protocol} ${end}`) ?? []
  const { wrap, body } = told.length === 0 ? { wrap: (value: unknown) => [3, 'note', value], body: {} } : dice.pick(told)
  const unknown = dice.pick<(value: unknown) => unknown>([
    (value) => [0, dice.below(5), dice.pick(['noSuchCall', '__proto__', 'constructor']), value],
    (value) => [3, dice.pick(['noSuchNote', 'toString']), value],
    () => [2, dice.below(5), 'JobNotFound', 'x'],
    (value) => spoilValue(dice, wrap(value)),
  ])
  const spoilt = dice.chance(0.8) ? spoilValue(dice, body) : body
  const frame = dice.chance(0.8) ? wrap(spoilt) : unknown(spoilt)
  let bytes: Uint8Array
  try {
    bytes = encode(frame)
  } catch {
    // Too deep for the encoder: then nobody of ours would have sent it either.
    bytes = dice.bytes(20)
  }
  return dice.chance(0.3) ? spoilBytes(dice, bytes) : bytes
}

function feed(dice: Dice, protocol: Protocol): void {
  const end = dice.pick(['client', 'server'] as const)
  const [mine, theirs] = [protocol[end], protocol[end === 'client' ? 'server' : 'client']]
  const channel = new Loose()
  let asked = 0
  const fits = (schema: { safeParse(value: unknown): { success: boolean } }, body: unknown) => {
    asked += 1
    assert(schema.safeParse(body).success, 'a body that is handed on fits its schema')
  }
  const answering = (shape: { request: Parameters<typeof fits>[0] }) => (body: unknown) => {
    fits(shape.request, body)
    return {}
  }
  const calls = Object.fromEntries(Object.entries(mine.calls).map(([name, shape]) => [name, answering(shape)]))
  const notes = Object.fromEntries(Object.entries(mine.notes).map(([name, schema]) => [name, (body: unknown) => fits(schema, body)]))
  new Session(channel, theirs, mine, { calls, notes } as never, protocol)
  for (let frames = 1 + dice.below(4); frames > 0 && channel.reason === undefined; frames -= 1)
    channel.deliver(frameFor(dice, protocol, end))
  assert(
    channel.reason === undefined || channel.reason === 'protocol-error',
    `a bad peer ends the channel as one, not as ${channel.reason}`,
  )
  assert(asked <= 4)
  assert.equal(({} as { polluted?: unknown }).polluted, undefined, 'nothing is written into what all objects share')
  channel.close()
}

export const sessionTargets: readonly Target[] = protocols.map((protocol) => ({
  name: `conversation ${protocol.protocol}`,
  feed: (dice) => feed(dice, protocol),
}))
