/** Asking side of protocols/launch.ts: the node of a gang's primary. */
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError } from '../../protocols/errors.ts'
import { type Attempt, attemptKey, type PeerIdText } from '../../protocols/ids.ts'
import { type Launched, launchProtocol } from '../../protocols/launch.ts'
import { clientSession, type Session } from '../../protocols/rpc.ts'
import type { Wire } from '../../protocols/wire.ts'

/** A channel that broke is opened again after this; a member that is lost ends the wait. */
const retryMs = 500

type LaunchSession = Session<(typeof launchProtocol)['server'], (typeof launchProtocol)['client']>

export interface Target {
  peer: PeerIdText
  /** Of the member. */
  attempt: Attempt
  /** Multiaddrs of its machine. */
  addresses: readonly string[]
}

export class Launcher {
  readonly #wire: Wire
  readonly #retryMs: number
  readonly #sessions = new Map<PeerIdText, Promise<LaunchSession>>()
  readonly #waiting = new Map<string, (launched: Launched) => void>()
  #count = 0

  constructor(wire: Wire, options: { retryMs?: number } = {}) {
    this.#wire = wire
    this.#retryMs = options.retryMs ?? retryMs
  }

  /**
   * Runs a text on a member and waits for its end, over as many channels as it takes. Aborting `signal` ends it there and
   * rejects; so does a refusal.
   */
  async launch({ peer, attempt, addresses }: Target, text: string, signal: AbortSignal): Promise<Launched> {
    this.#count += 1
    const id = String(this.#count)
    const key = launchKey(peer, attempt, id)
    if (addresses.length > 0) this.#wire.learn(peer, addresses)
    const { promise: ended, resolve } = Promise.withResolvers<Launched>()
    this.#waiting.set(key, resolve)
    const aborted = new Promise<undefined>((done) => signal.addEventListener('abort', () => done(undefined), { once: true }))
    let session: LaunchSession | undefined
    try {
      for (;;) {
        signal.throwIfAborted()
        try {
          session = await this.#session(peer, signal)
          const answer = await session.call('launch', { attempt, id, text }, { signal })
          const launched = answer.ended ?? (await Promise.race([ended, aborted, session.closed.then(() => undefined)]))
          if (launched !== undefined) return launched
        } catch (error) {
          if (!isPassing(error)) throw error
        }
        if (!signal.aborted) await Promise.race([sleep(this.#retryMs), aborted])
      }
    } finally {
      this.#waiting.delete(key)
      if (session?.isClosed === false) session.note('drop', { attempt, id })
    }
  }

  close(): void {
    for (const session of this.#sessions.values()) void session.then((open) => open.close()).catch(() => undefined)
    this.#sessions.clear()
  }

  /** One channel for all launches on a machine. */
  #session(peer: PeerIdText, signal: AbortSignal): Promise<LaunchSession> {
    const known = this.#sessions.get(peer)
    if (known !== undefined) return known
    const opening = this.#open(peer, signal)
    this.#sessions.set(peer, opening)
    const forget = () => {
      if (this.#sessions.get(peer) === opening) this.#sessions.delete(peer)
    }
    opening.then((session) => session.closed.then(forget), forget)
    return opening
  }

  async #open(peer: PeerIdText, signal: AbortSignal): Promise<LaunchSession> {
    return clientSession(launchProtocol, await this.#wire.open(peer, launchProtocol, { signal }), {
      calls: {},
      notes: { ended: ({ attempt, id, launched }) => this.#waiting.get(launchKey(peer, attempt, id))?.(launched) },
    })
  }
}

function launchKey(peer: PeerIdText, attempt: Attempt, id: string): string {
  return `${peer} ${attemptKey(attempt)} ${id}`
}

/** Whether it is the way to the machine that failed. */
function isPassing(error: unknown): boolean {
  return error instanceof MeshError && ['Unreachable', 'OperationTimedOut', 'Aborted'].includes(error.code)
}
