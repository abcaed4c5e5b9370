import { describe, expect, it } from 'vitest'
import { Desk } from '../../coordinator/desk.ts'
import type { Event } from '../../coordinator/events.ts'
import type { Pipeline } from '../../coordinator/pipeline.ts'
import { WorkerSessions } from '../../coordinator/sessions.ts'
import { loopbackPair } from '../../node/loopback.ts'
import { type Hello, leasesProtocol } from '../../protocols/leases.ts'
import { silentLogger } from '../../protocols/logger.ts'
import { clientSession } from '../../protocols/rpc.ts'
import type { Channel, Wire } from '../../protocols/wire.ts'

const peer = 'peer-of-a-worker'
const hello: Hello = {
  machine: {
    name: 'w',
    class: 'dedicated',
    capacity: { cores: 2, memoryMiB: 1024, gpus: 0 },
    diskFreeMiB: 1,
    labels: {},
    os: 'linux',
    arch: 'x64',
    version: '0',
    isolation: 'process-group',
    addresses: [],
    nodeRootDir: '/',
  },
  incarnation: 1,
  inventory: [],
  reservations: [],
  ownerEpoch: 0,
}
const welcome = { ownerEpoch: 1, heartbeatMs: 5000, keep: [], nodes: [] }

/** Sessions over a loopback, with the events that reach the core; `found` is what a probe of the worker answers. */
function setup(found: 'alive' | 'refused' = 'alive') {
  let accept: (channel: Channel) => void = () => {}
  const wire = {
    serve: (_service: unknown, taker: (channel: Channel) => void) => {
      accept = taker
      return () => {}
    },
    learn: () => {},
    probe: () => Promise.resolve(found),
  } as unknown as Wire
  const desk = new Desk()
  const events: Event[] = []
  let heard = () => {}
  desk.attach({
    post: (event: Event) => {
      events.push(event)
      heard()
    },
  } as unknown as Pipeline)
  const sessions = new WorkerSessions(desk, wire, (reports) => Promise.resolve(reports), silentLogger)
  const [near, far] = loopbackPair({ peer, roles: ['worker'] }, leasesProtocol.maxFrameBytes)
  accept(far)
  const reserved: number[] = []
  const worker = clientSession(leasesProtocol, near, {
    calls: {
      retract: () => ({ retracted: [] }),
      reserve: ({ reservationId }) => {
        reserved.push(reservationId)
        return { granted: true }
      },
    },
    notes: { beat: () => {}, grant: () => {}, stop: () => {}, release: () => {}, forget: () => {} },
  })
  const event = async (kind: Event['kind']) => {
    for (;;) {
      const known = events.find((candidate) => candidate.kind === kind)
      if (known !== undefined) return known
      await new Promise<void>((resolve) => {
        heard = resolve
      })
    }
  }
  return { desk, sessions, worker, reserved, events, event }
}

describe('the session of a worker', () => {
  it('gets what the batch of its own hello has for it', async () => {
    const { desk, sessions, worker, reserved, event } = setup()
    const answer = worker.call('hello', hello)
    const said = await event('hello')
    // Performed together, as a pipeline does with the effects of one batch.
    desk.answer((said as { replyTo: number }).replyTo, welcome)
    const reservation = {
      reservationId: 7,
      ownerEpoch: 1,
      poolId: 'p',
      nodeId: 'n',
      size: { cores: 1, memoryMiB: 1, gpus: 0 },
      taskSlots: 1,
    }
    sessions.tell({ kind: 'reserve', peer, reservation })
    await answer
    expect(await event('reserved')).toMatchObject({ reservationId: 7, granted: true })
    expect(reserved).toEqual([7])
  })

  it('L7: is reported gone when it ended while its hello was on the way to the disk', async () => {
    const { desk, worker, event, events } = setup('refused')
    worker.call('hello', hello).catch(() => undefined)
    const said = await event('hello')
    worker.close()
    await worker.closed
    await new Promise<void>((resolve) => setImmediate(resolve))
    expect(events.map(({ kind }) => kind)).toEqual(['hello'])
    desk.answer((said as { replyTo: number }).replyTo, welcome)
    expect(await event('gone')).toMatchObject({ peer, dead: false })
    await new Promise<void>((resolve) => setImmediate(resolve))
    expect(events.at(-1)).toMatchObject({ kind: 'gone', dead: true })
  })
})
