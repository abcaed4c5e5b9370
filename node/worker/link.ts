/**
 * The worker's session with its coordinator: opened, kept alive, opened again. The heartbeat has its own timer and
 * awaits nothing, so that it never waits behind a task's files or the disk; how late it fires is measured.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { heartbeatMs as defaultHeartbeatMs, type Hello, leasesProtocol, type Welcome } from '../../protocols/leases.ts'
import { isRemoval } from '../../protocols/membership.ts'
import { poolsTopic } from '../../protocols/pools.ts'
import { clientSession, type Handlers } from '../../protocols/rpc.ts'
import type { Wire } from '../../protocols/wire.ts'
import type { Log } from '../ports.ts'
import type { LeaseSession } from './reporter.ts'

/** First pause between tries to connect; doubles with each failure. */
const firstBackoffMs = 200
/** Longest pause: a coordinator that comes back is found within this, and a thousand machines are 70 tries a second. */
const maxBackoffMs = 15_000
/** A session that stood less long counts as a failed try. */
const stableMs = 5000
/** A session without a beat for so many heartbeats is given up: its path may be gone without a word. */
const silentBeats = 4
/** A timer that fires so much too late has slept with the machine: the session is of before. */
const suspendedMs = 15_000
/** A machine that was removed from the mesh is one for ever; it only asks again in case that it misunderstood. */
const removedRetryMs = 3_600_000

/** Reasons for failing may take turns; so often is the log told of another. */
const sayAgainMs = 600_000

/** Pause before the next try: up to double for each failure, of which a random half is waited at least. */
export function backoffMs(failures: number, random: number): number {
  const ceiling = Math.min(maxBackoffMs, firstBackoffMs * 2 ** Math.min(failures, 20))
  return ceiling / 2 + (random * ceiling) / 2
}

/** Runs an act that the coordinator asks for once it is known that it is to be obeyed; never for one that is not, nor after the session. */
export type Gate = <T>(act: () => T | Promise<T>) => Promise<T>

export interface LinkParts {
  wire: Wire
  meshId: string
  coordinator: PeerIdText
  /** Called for each connection, when it is open. */
  hello(): Hello
  /** Called with the answer; rejects or throws when the coordinator is not to be obeyed. */
  welcomed(session: LeaseSession, welcome: Welcome): Promise<void>
  /** The session stands. */
  live(): void
  /** The session has ended; another will come unless the link was closed. */
  lost(): void
  /** The coordinator says that this machine was removed from the mesh. */
  removed(): void
  handlers(gate: Gate): Handlers<typeof leasesProtocol.client>
  /** At each heartbeat, connected or not. */
  tick(now: number): void
  diskFreeMiB(): number
  now(): number
  random(): number
  log: Log
}

export class Link {
  readonly #parts: LinkParts
  readonly #closing = new AbortController()
  #session: LeaseSession | undefined
  #heartbeatMs = defaultHeartbeatMs
  #timer: NodeJS.Timeout | undefined
  #due = 0
  #maxLagMs = 0
  #heardAt: number
  #contactAt: number
  #whole: Promise<void> | undefined
  /** Ends the pause between two tries. */
  #pause = new AbortController()
  #unsubscribe: (() => void) | undefined

  constructor(parts: LinkParts) {
    this.#parts = parts
    this.#heardAt = parts.now()
    this.#contactAt = parts.now()
  }

  /** The session that stands: welcomed and not ended. */
  get session(): LeaseSession | undefined {
    return this.#session
  }

  /** When the last heartbeat was sent that the coordinator answered (L3). */
  get contactAt(): number {
    return this.#contactAt
  }

  /** As the coordinator asks for. */
  get heartbeatMs(): number {
    return this.#heartbeatMs
  }

  /** Longest lateness of a heartbeat since this was last asked, in ms. */
  takeMaxLagMs(): number {
    const lag = this.#maxLagMs
    this.#maxLagMs = 0
    return lag
  }

  open(): void {
    // A hint only (G1), and a forged one costs a try: an announcement of pools says that the coordinator is there again.
    this.#unsubscribe = this.#parts.wire.subscribe(poolsTopic(this.#parts.meshId), (_data, from) => {
      if (from === this.#parts.coordinator) this.#pause.abort()
    })
    this.#whole = this.#run()
    this.#beatLater()
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer)
    this.#unsubscribe?.()
    this.#closing.abort(new MeshError('Aborted', 'The worker is going down.'))
    this.#session?.close()
    await this.#whole
  }

  /** Ends the session, so that the next begins with an inventory. */
  renew(reason: string): void {
    this.#parts.log.warn({ reason }, 'the session with the coordinator is renewed')
    const session = this.#session
    // At once, so that nothing is started any more (L7).
    this.#session = undefined
    session?.close()
  }

  /** The coordinator answered a heartbeat. */
  beat(sentAt: number, heartbeatMs: number): void {
    const now = this.#parts.now()
    this.#heardAt = now
    // A time that is not one of ours says nothing.
    if (sentAt <= now && sentAt > this.#contactAt) this.#contactAt = sentAt
    this.#heartbeatMs = heartbeatMs
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing
    const parts = this.#parts
    const { log } = parts
    let said: { why: string; at: number } | undefined
    let isRemoved = false
    for (let failures = 0; !signal.aborted; ) {
      const since = parts.now()
      try {
        const reason = await this.#once(signal)
        isRemoved = false
        said = undefined
        log.info({ reason }, 'the session with the coordinator has ended')
        failures = parts.now() - since >= stableMs ? 0 : failures + 1
      } catch (error) {
        if (signal.aborted) return
        failures += 1
        // For days where a founder is off: said once, and another reason now and then.
        const why = error instanceof Error ? error.message : String(error)
        const isNews = said === undefined || (why !== said.why && since - said.at >= sayAgainMs)
        const wasRemoved = isRemoved
        isRemoved = isRemoval(error)
        if (isRemoved && !wasRemoved) {
          log.error({}, 'this machine was removed from the mesh, and runs nothing for it any more; leave it with: batchmesh leave')
          parts.removed()
        } else
          log[isNews && !isRemoved ? 'warn' : 'debug']({ error: why, failures }, 'no session with the coordinator; the machine tries again')
        if (isNews) said = { why, at: since }
      }
      if (signal.aborted) return
      const pauseMs = isRemoved ? removedRetryMs : backoffMs(failures, parts.random())
      this.#pause = new AbortController()
      await sleep(pauseMs, undefined, { signal: AbortSignal.any([signal, this.#pause.signal]) }).catch(() => {})
    }
  }

  /** One session from its opening to its end. */
  async #once(signal: AbortSignal): Promise<string> {
    const { wire, coordinator, log } = this.#parts
    const channel = await wire.open(coordinator, leasesProtocol, { signal })
    const door = new Door()
    const session = clientSession(leasesProtocol, channel, this.#parts.handlers(door.gate))
    const onAbort = () => session.close()
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const sentAt = this.#parts.now()
      const welcome = await session.call('hello', this.#parts.hello(), { signal })
      this.beat(sentAt, welcome.heartbeatMs)
      await this.#parts.welcomed(session, welcome)
      if (session.isClosed) return await session.closed
      this.#session = session
      door.open()
      this.#parts.live()
      log.info({ coordinator, ownerEpoch: welcome.ownerEpoch }, 'connected to the coordinator')
      return await session.closed
    } finally {
      door.shut()
      this.#session = undefined
      signal.removeEventListener('abort', onAbort)
      session.close()
      this.#parts.lost()
    }
  }

  #beatLater(): void {
    // A tenth of jitter: machines that came up together do not beat together.
    const waitMs = this.#heartbeatMs * (0.9 + this.#parts.random() * 0.1)
    this.#due = this.#parts.now() + waitMs
    this.#timer = setTimeout(() => this.#beat(), waitMs)
  }

  #beat(): void {
    const now = this.#parts.now()
    const lagMs = now - this.#due
    this.#maxLagMs = Math.max(this.#maxLagMs, lagMs)
    this.#beatLater()
    const session = this.#session
    if (session !== undefined) {
      if (lagMs > suspendedMs) this.renew('the machine slept')
      else if (now - this.#heardAt > this.#heartbeatMs * silentBeats) this.renew('the coordinator was not heard')
      else session.note('heartbeat', { sentAt: now, diskFreeMiB: this.#parts.diskFreeMiB() })
    }
    this.#parts.tick(now)
  }
}

/** Holds back what comes between the welcome's frame and its being obeyed: frames of one turn are handed over together. */
class Door {
  #state: 'opening' | 'open' | 'shut' = 'opening'
  #early: (() => void)[] = []

  readonly gate: Gate = (act) =>
    new Promise((resolve, reject) => {
      const run = () => {
        try {
          resolve(act())
        } catch (error) {
          reject(error as Error)
        }
      }
      if (this.#state === 'open') run()
      else if (this.#state === 'opening') this.#early.push(run)
    })

  open(): void {
    this.#state = 'open'
    for (const run of this.#early) run()
    this.#early = []
  }

  shut(): void {
    this.#state = 'shut'
    this.#early = []
  }
}
