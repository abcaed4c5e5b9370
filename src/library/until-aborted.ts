/** Waiting for what may never come. */

/** Like `promise`, but rejects with the signal's reason when that aborts first. Leaves no listener behind. */
export function untilAborted<T>(promise: PromiseLike<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(resolve, reject).then(() => signal.removeEventListener('abort', onAbort))
  })
}

/** One waiter, woken by whoever has something for it. A call that nobody waits for is remembered. */
export class Bell {
  #ring = () => {}
  #rung = false

  ring(): void {
    this.#rung = true
    this.#ring()
  }

  async wait(): Promise<void> {
    if (!this.#rung) await new Promise<void>((resolve) => (this.#ring = resolve))
    this.#rung = false
    this.#ring = () => {}
  }
}
