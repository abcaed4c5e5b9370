/** The coordinator's side of the worker sessions: what workers say becomes events, what the core wants said is sent. */

import type { JobUid, PeerIdText } from '../protocols/ids.ts'
import { type ClaimAnswer, type LeasesProtocol, leasesProtocol, type Report, type Verdict, type Welcome } from '../protocols/leases.ts'
import type { Logger } from '../protocols/logger.ts'
import { type Session, serverSession } from '../protocols/rpc.ts'
import type { Channel, Wire } from '../protocols/wire.ts'
import type { Desk } from './desk.ts'
import type { Effect } from './events.ts'

type WorkerSession = Session<LeasesProtocol['client'], LeasesProtocol['server']>
/** Holds what machines report against what they were asked (vet.ts). */
export type Vet = (reports: readonly Report[]) => Promise<readonly Report[]>
type Note = Extract<Effect, { kind: 'beat' | 'stop' | 'forget' | 'release' | 'reserve' | 'retract' }>

/** After the end of a session: a process that is ending may listen for a moment longer, and a machine that starts again answers only then. */
const probeAfterMs = [0, 500, 2000, 10_000, 30_000]

export class WorkerSessions {
  readonly #desk: Desk
  readonly #wire: Wire
  readonly #logger: Logger
  readonly #vet: Vet
  /** The newest session of each worker. */
  readonly #sessions = new Map<PeerIdText, { session: WorkerSession; number: number }>()
  readonly #unserve: () => void
  #lastSession = 0
  #stopped = false

  constructor(desk: Desk, wire: Wire, vet: Vet, logger: Logger) {
    this.#desk = desk
    this.#wire = wire
    this.#vet = vet
    this.#logger = logger
    this.#unserve = wire.serve(leasesProtocol, (channel) => this.#accept(channel))
  }

  get(peer: PeerIdText): WorkerSession | undefined {
    return this.#sessions.get(peer)?.session
  }

  /** Sends what the core wants a worker to know or be asked. A worker that is gone gets nothing: its next hello settles it. */
  tell(effect: Note): void {
    const entry = this.#sessions.get(effect.peer)
    if (entry === undefined) return
    const { session, number } = entry
    switch (effect.kind) {
      case 'beat':
        // A machine that does not even take what it was told before is in no need of one.
        if (!session.isFull) session.note('beat', { sentAt: effect.sentAt, heartbeatMs: effect.heartbeatMs })
        return
      case 'stop':
        session.note('stop', { attempts: effect.attempts, reason: effect.reason })
        return
      case 'forget':
        for (const jobUid of effect.jobUids) session.note('forget', { jobUid })
        return
      case 'release':
        session.note('release', { reservationId: effect.reservationId, now: effect.now })
        return
      case 'reserve':
        void this.#reserve(session, effect)
        return
      case 'retract':
        void this.#retract(session, number, effect)
    }
  }

  /** A job was deleted: its files on the machines go too. A machine that is away is told when it says hello. */
  forgetJob(jobUid: JobUid): void {
    for (const { session } of this.#sessions.values()) session.note('forget', { jobUid })
  }

  stop(): void {
    this.#stopped = true
    this.#unserve()
    for (const { session } of this.#sessions.values()) session.close()
  }

  /** Ends what a peer may still say, because its membership was revoked. */
  drop(peer: PeerIdText): void {
    this.#sessions.get(peer)?.session.close()
  }

  #accept(channel: Channel): void {
    this.#lastSession += 1
    const number = this.#lastSession
    const { peer, roles } = channel.remote
    const from = { peer, session: number }
    let isWelcomed = false
    let isOver = false
    const welcomed = () => {
      if (isWelcomed) return
      isWelcomed = true
      const older = this.#sessions.get(peer)?.session
      this.#sessions.set(peer, { session, number })
      older?.close()
      // It ended while its hello was on the way to the disk: the core must hear of that too.
      if (isOver) this.#gone(peer, session, number)
    }
    const session: WorkerSession = serverSession(leasesProtocol, channel, {
      calls: {
        hello: (hello) => {
          this.#wire.learn(peer, hello.machine.addresses)
          // At once, for what the same batch has for this machine goes to this session.
          return this.#desk.ask<Welcome>({ kind: 'hello', ...from, roles, hello }, welcomed)
        },
        claim: (claim) => this.#desk.ask<ClaimAnswer>({ kind: 'claim', ...from, claim }),
        report: async ({ reports }) =>
          this.#desk.ask<{ verdicts: Verdict[] }>({ kind: 'report', ...from, reports: await this.#vet(reports) }),
      },
      notes: {
        heartbeat: (body) => this.#desk.post({ kind: 'heartbeat', ...from, ...body }),
        started: ({ attempts }) => this.#desk.post({ kind: 'started', ...from, attempts }),
        uploading: ({ attempts }) => this.#desk.post({ kind: 'uploading', ...from, attempts }),
        draining: ({ returned, leaving }) => this.#desk.post({ kind: 'draining', ...from, returned, leaving }),
      },
    })
    void session.closed.then(() => {
      isOver = true
      if (isWelcomed) this.#gone(peer, session, number)
    })
  }

  #gone(peer: PeerIdText, session: WorkerSession, number: number): void {
    if (this.#sessions.get(peer)?.session === session) this.#sessions.delete(peer)
    if (this.#stopped) return
    this.#desk.post({ kind: 'gone', peer, session: number, dead: false })
    void this.#findOut(peer, number)
  }

  /** A dead process is not a partition: its machine answers that nobody listens (L7). */
  async #findOut(peer: PeerIdText, number: number): Promise<void> {
    for (const waitMs of probeAfterMs) {
      if (waitMs > 0) await new Promise<void>((resolve) => setTimeout(resolve, waitMs).unref())
      const found = this.#isAway(peer) ? await this.#wire.probe(peer) : undefined
      if (!this.#isAway(peer)) return
      if (found === 'refused') return this.#desk.post({ kind: 'gone', peer, session: number, dead: true })
    }
  }

  #isAway(peer: PeerIdText): boolean {
    return !this.#stopped && !this.#sessions.has(peer)
  }

  async #reserve(session: WorkerSession, { peer, reservation }: Extract<Note, { kind: 'reserve' }>): Promise<void> {
    const { reservationId } = reservation
    try {
      const answer = await session.call('reserve', reservation)
      this.#desk.post({ kind: 'reserved', peer, reservationId, ...answer })
    } catch (error) {
      // The core asks again.
      this.#logger.warn({ machine: peer, reservationId, error: String(error) }, 'a machine did not answer a reservation')
    }
  }

  async #retract(session: WorkerSession, number: number, { peer, attempts }: Extract<Note, { kind: 'retract' }>): Promise<void> {
    try {
      const { retracted } = await session.call('retract', { attempts })
      if (retracted.length > 0) this.#desk.post({ kind: 'retracted', peer, session: number, attempts: retracted })
    } catch (error) {
      this.#logger.warn({ machine: peer, error: String(error) }, 'a machine did not answer a retraction')
    }
  }
}
