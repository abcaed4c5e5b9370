/** Peers that say wrong things in each conversation: the session refuses or ends it, and hands on only what fits. */
import assert from 'node:assert/strict'
import { blobsProtocol } from '../../protocols/blobs.ts'
import { encode } from '../../protocols/codec.ts'
import { controlProtocol } from '../../protocols/control.ts'
import { filesProtocol } from '../../protocols/files.ts'
import { leasesProtocol } from '../../protocols/leases.ts'
import { localProtocol } from '../../protocols/local.ts'
import { enrolProtocol, helloProtocol, membershipProtocol } from '../../protocols/membership.ts'
import { type Protocol, Session } from '../../protocols/rpc.ts'
import type { Channel, CloseReason } from '../../protocols/wire.ts'
import { type Dice, spoilBytes, spoilValue } from './dice.ts'
import type { Target } from './target.ts'

const protocols = [
  blobsProtocol,
  controlProtocol,
  enrolProtocol,
  filesProtocol,
  helloProtocol,
  leasesProtocol,
  localProtocol,
  membershipProtocol,
] as unknown as Protocol[]

const attempt = { jobUid: 3, task: '0007', epoch: 2 }
/** Pieces that bodies are made of, by the names of the fields of our messages. */
const bodies: Record<string, unknown>[] = [
  { jobId: 'j', taskId: 't', poolId: 'p', machine: 'm', limit: 10, after: 'a' },
  {
    id: 'bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy',
    offset: 0,
    length: 10,
    name: 'n',
    handle: 1,
    data: new Uint8Array(8),
  },
  { requestId: 'r', nodes: [{ nodeId: 'n', room: { slots: 1, cores: 1, memoryMiB: 1, gpus: 0 }, prefetchSlots: 2 }], waitMs: 10 },
  { reports: [{ attempt, outcome: { exitCode: 0, startTime: 1, endTime: 2, outputs: [] } }] },
  { attempts: [attempt, { ...attempt, startTime: 5 }], reason: 'x', returned: [], leaving: false },
  { jobId: 'j', tasks: [{ id: 'a', commandLine: 'true', environmentSettings: [{ name: 'A', value: 'b' }] }] },
  { jobId: 'j', array: { indexes: [{ start: 0, end: 9 }], template: { commandLine: 'true' } } },
  { sentAt: 1, diskFreeMiB: 2, heartbeatMs: 5000, reservationId: 1, now: true, jobUid: 3 },
  { roles: ['worker'], expiresMs: 1000, uses: 1, secret: new Uint8Array(16), name: 'n', certificate: new Uint8Array(40) },
  { attempt, name: 'stdout.txt', offset: 0, length: 100, waitMs: 0, recursive: true },
]

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

function frameFor(dice: Dice, side: Protocol['server']): Uint8Array {
  const call = [0, dice.below(5), dice.pick([...Object.keys(side.calls), 'noSuchCall', '__proto__', 'constructor'])]
  const note = [3, dice.pick([...Object.keys(side.notes), 'noSuchNote', 'toString'])]
  const body = dice.chance(0.7) ? spoilValue(dice, dice.pick(bodies)) : dice.pick(bodies)
  const frame = dice.pick<unknown>([
    [...call, body],
    [...call, body],
    [...note, body],
    [1, dice.below(5), body],
    [2, dice.below(5), 'JobNotFound', 'x'],
    spoilValue(dice, [...call, body]),
  ])
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
  const mine = dice.chance(0.5) ? protocol.server : protocol.client
  const theirs = mine === protocol.server ? protocol.client : protocol.server
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
  for (let frames = 1 + dice.below(4); frames > 0 && channel.reason === undefined; frames -= 1) channel.deliver(frameFor(dice, mine))
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
