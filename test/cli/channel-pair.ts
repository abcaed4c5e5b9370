/** Two ends of a channel in memory. */
import type { Channel, CloseReason, Remote } from '../../protocols/wire.ts'

class End implements Channel {
  readonly remote: Remote = { peer: 'local-node', roles: [] }
  readonly closed: Promise<CloseReason>
  other: End | undefined
  #handler: ((frame: Uint8Array) => void) | undefined
  readonly #early: Uint8Array[] = []
  readonly #end = Promise.withResolvers<CloseReason>()
  #isClosed = false

  constructor() {
    this.closed = this.#end.promise
  }

  send(frame: Uint8Array, tail: Uint8Array = new Uint8Array()): boolean {
    const copy = new Uint8Array(Buffer.concat([frame, tail]))
    if (!this.#isClosed) setImmediate(() => this.other?.arrive(copy))
    return true
  }

  arrive(frame: Uint8Array): void {
    if (this.#isClosed) return
    if (this.#handler === undefined) this.#early.push(frame)
    else this.#handler(frame)
  }

  drained(): Promise<void> {
    return Promise.resolve()
  }

  receive(handler: (frame: Uint8Array) => void): void {
    this.#handler = handler
    for (const frame of this.#early.splice(0)) handler(frame)
  }

  pause(): void {}
  resume(): void {}

  close(reason: CloseReason = 'local'): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#end.resolve(reason)
    setImmediate(() => this.other?.close(reason === 'local' ? 'remote' : reason))
  }
}

export function channelPair(): [Channel, Channel] {
  const [near, far] = [new End(), new End()]
  near.other = far
  far.other = near
  return [near, far]
}
