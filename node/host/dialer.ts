/** Keeps connections to certain peers: dials again for ever, backing off with jitter, and at once when a peer is sighted. */
import type { PeerIdText } from '../../protocols/ids.ts'
import { patientCapMs, redialDelayMs } from './backoff.ts'

export interface DialerOptions {
  isConnected: (peer: PeerIdText) => boolean
  /** Rejects when the peer cannot be reached. */
  dial: (peer: PeerIdText) => Promise<unknown>
  random?: () => number
  log: (message: string, details: Record<string, unknown>) => void
}

interface Kept {
  failures: number
  isPatient: boolean
  timer: ReturnType<typeof setTimeout> | undefined
  dialling: boolean
  /** Sighted while a dial was under way. */
  again: boolean
}

export class Dialer {
  readonly #options: DialerOptions
  readonly #kept = new Map<PeerIdText, Kept>()

  constructor(options: DialerOptions) {
    this.#options = options
  }

  /** Returns how to stop. `patient`: after many failures it is dialled only now and then. */
  keep(peer: PeerIdText, { patient = false }: { patient?: boolean } = {}): () => void {
    const known = this.#kept.get(peer)
    if (known === undefined) {
      this.#kept.set(peer, { failures: 0, isPatient: patient, timer: undefined, dialling: false, again: false })
      this.sighted(peer)
    } else known.isPatient &&= patient
    return () => {
      clearTimeout(this.#kept.get(peer)?.timer)
      this.#kept.delete(peer)
    }
  }

  /** The peer is there, or may be: dial now if it is one to keep. */
  sighted(peer: PeerIdText): void {
    const kept = this.#kept.get(peer)
    if (kept === undefined) return
    clearTimeout(kept.timer)
    kept.timer = undefined
    void this.#dial(peer, kept)
  }

  /** Its last connection closed. */
  lost(peer: PeerIdText): void {
    const kept = this.#kept.get(peer)
    if (kept !== undefined) this.#schedule(peer, kept)
  }

  stop(): void {
    for (const kept of this.#kept.values()) clearTimeout(kept.timer)
    this.#kept.clear()
  }

  async #dial(peer: PeerIdText, kept: Kept): Promise<void> {
    if (this.#options.isConnected(peer)) return
    if (kept.dialling) {
      kept.again = true
      return
    }
    kept.dialling = true
    try {
      await this.#options.dial(peer)
      kept.failures = 0
    } catch (error) {
      kept.failures += 1
      if (kept.failures === 1) this.#options.log('a peer cannot be reached; dialling goes on', { peer, error: String(error) })
    }
    kept.dialling = false
    if (this.#kept.get(peer) !== kept || this.#options.isConnected(peer)) return
    if (kept.again) {
      kept.again = false
      return this.sighted(peer)
    }
    this.#schedule(peer, kept)
  }

  #schedule(peer: PeerIdText, kept: Kept): void {
    if (kept.timer !== undefined || kept.dialling) return
    const random = (this.#options.random ?? Math.random)()
    const delayMs = redialDelayMs(kept.failures, random, kept.isPatient ? patientCapMs : undefined)
    kept.timer = setTimeout(() => {
      kept.timer = undefined
      void this.#dial(peer, kept)
    }, delayMs)
  }
}
