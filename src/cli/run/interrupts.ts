/** Ctrl-C during a run: asks what to do, or detaches where nobody can be asked. */
import type { Interrupt, World } from '../world.ts'
import type { Progress } from './progress.ts'

export type Decision = 'stop' | 'detach'

export class Interrupts {
  /** Aborts when the run is to be left. */
  readonly signal: AbortSignal
  /** What to do with the job, once `signal` has aborted. */
  decision: Decision = 'detach'
  readonly #abort = new AbortController()
  readonly #world: World
  readonly #progress: Progress
  readonly #unhook: () => void
  #asking: AbortController | undefined
  #canDetach = false

  constructor(world: World, progress: Progress) {
    this.#world = world
    this.#progress = progress
    this.signal = this.#abort.signal
    this.#unhook = world.onInterrupt((signal) => this.#interrupted(signal))
  }

  /** From now on the job can go on without this program. Before, an interruption gives everything up. */
  allowDetach(): void {
    this.#canDetach = true
  }

  close(): void {
    this.#asking?.abort()
    this.#unhook()
  }

  #leave(decision: Decision): void {
    this.decision = decision
    this.#abort.abort()
  }

  #interrupted(signal: Interrupt): void {
    if (!this.#canDetach) return this.#leave('stop')
    if (signal !== 'SIGINT' || !this.#world.interactive || this.#asking !== undefined) {
      this.#asking?.abort()
      return this.#leave('detach')
    }
    void this.#ask()
  }

  async #ask(): Promise<void> {
    const asking = new AbortController()
    this.#asking = asking
    this.#progress.clear()
    this.#progress.hold(true)
    try {
      const answer = await this.#world.ask('Stop the job, detach and leave it running, or go on? [s/d/G] ', asking.signal)
      const first = answer.trim().toLowerCase()[0]
      if (first === 's') this.#leave('stop')
      else if (first === 'd') this.#leave('detach')
    } catch (error) {
      // Withdrawn: a second Ctrl-C has decided, or the run has ended. Anything else: nobody can be asked.
      if (!asking.signal.aborted) this.#leave('detach')
      if (!(error instanceof Error)) throw error
    } finally {
      this.#progress.hold(false)
      this.#asking = undefined
    }
  }
}
