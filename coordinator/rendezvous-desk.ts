/** Holds the requests of programs that wait for the other members of their group (rendezvous.ts). */
import { randomBytes } from 'node:crypto'
import { MeshError } from '../protocols/errors.ts'
import type { RendezvousAnswer, RendezvousRequest } from '../protocols/rendezvous.ts'
import { come, giveUp, newRendezvous } from './rendezvous.ts'

/** Of a group: what node/groups/links/keys.ts makes the keys of connections from. */
const keyBytes = 32

interface Caller {
  resolve(answer: RendezvousAnswer): void
  reject(error: Error): void
}

export class RendezvousDesk {
  readonly #all = newRendezvous()
  /** By request. */
  readonly #callers = new Map<string, Caller>()

  /** Resolves when all have come; `signal`: the one who asks is gone. */
  async meet(request: RendezvousRequest, signal: AbortSignal): Promise<RendezvousAnswer> {
    const { requestId, waitMs } = request
    signal.throwIfAborted()
    const answers = come(this.#all, request, performance.now(), new Uint8Array(randomBytes(keyBytes)))
    const own = answers.get(requestId)
    for (const [id, answer] of answers) this.#callers.get(id)?.resolve(answer)
    if (own !== undefined) return own
    // Who asks again has left its first request behind.
    this.#callers.get(requestId)?.reject(new MeshError('Aborted', 'The same request came again.'))
    if (waitMs === 0) throw missing(request, giveUp(this.#all, request))
    const { promise, resolve, reject } = Promise.withResolvers<RendezvousAnswer>()
    const caller = { resolve, reject }
    this.#callers.set(requestId, caller)
    const end = (error: (came: number) => MeshError) => {
      if (this.#callers.get(requestId) === caller) reject(error(giveUp(this.#all, request)))
    }
    const gone = () => end(() => new MeshError('Aborted'))
    const timer = setTimeout(() => end((came) => missing(request, came)), waitMs)
    signal.addEventListener('abort', gone)
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', gone)
      if (this.#callers.get(requestId) === caller) this.#callers.delete(requestId)
    }
  }
}

function missing({ name, size, waitMs }: RendezvousRequest, came: number): MeshError {
  const seconds = Math.round(waitMs / 100) / 10
  return new MeshError('OperationTimedOut', `The group "${name}" needs ${size} members; ${came} came within ${seconds} s.`)
}
