/**
 * Sessions that come back: each conversation with the node is opened when it is first needed and opened again after a
 * break, so that a long-running command survives a restart of the node or the coordinator.
 */
import type { z } from 'zod'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import { type CallOptions, clientSession, type Handlers, type Protocol, type Session, type Side } from '../../protocols/rpc.ts'
import type { AbortOptions, Channel, Service } from '../../protocols/wire.ts'

export type OpenChannel = (service: Service, options?: AbortOptions) => Promise<Channel>

export interface PersistOptions extends CallOptions {
  /** Repeat the call, with growing pauses, for as long as the mesh is out of reach. For calls that may be repeated. */
  persist?: boolean
}

/** Told when the mesh goes out of reach and when it is back. */
export interface Trouble {
  lost(error: MeshError): void
  back(): void
}

/** Given what a peer did not understand, says which version it is of, if that may be why. */
export type Explain = (name: string, error: MeshError) => Promise<MeshError>

/** Whether the reason may be that the other side is of another version. */
function isMisunderstood(error: unknown): error is MeshError {
  return error instanceof MeshError && (error.code === 'UnsupportedVersion' || error.code === 'InvalidRequestBody')
}

const firstPauseMs = 100
/** A restarted coordinator is found again within this. */
const longestPauseMs = 3000

/** Whether an error means that the same request may well succeed once the mesh is back. */
export function isOutOfReach(error: unknown): error is MeshError {
  if (!(error instanceof MeshError)) return false
  return error.code === 'NoCoordinator' || error.code === 'Unreachable' || error.code === 'ServerBusy' || error.code === 'OperationTimedOut'
}

/** Waits; rejects with Aborted when the signal ends it. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new MeshError('Aborted'))
    const onAbort = () => {
      clearTimeout(timer)
      reject(new MeshError('Aborted'))
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

/** Pauses between attempts: each twice as long as the one before. */
export class Backoff {
  #nextMs = firstPauseMs

  async pause(signal?: AbortSignal): Promise<void> {
    const ms = this.#nextMs
    this.#nextMs = Math.min(longestPauseMs, ms * 2)
    await pause(ms, signal)
  }

  /** Something went on: the next pause is the shortest again. */
  reset(): void {
    this.#nextMs = firstPauseMs
  }
}

/** Repeats `attempt` until it succeeds, fails for another reason than the mesh being out of reach, or is aborted. */
export async function persistently<T>(attempt: () => Promise<T>, trouble: Trouble, signal?: AbortSignal): Promise<T> {
  const backoff = new Backoff()
  let lost = false
  for (;;) {
    try {
      const result = await attempt()
      if (lost) trouble.back()
      return result
    } catch (error) {
      if (!isOutOfReach(error) || signal?.aborted) throw error
      if (!lost) trouble.lost(error)
      lost = true
    }
    await backoff.pause(signal)
  }
}

/** One conversation. `Client` is what this end understands, `Server` what it may ask. */
export class Line<Client extends Side, Server extends Side> {
  readonly #protocol: Protocol<Client, Server>
  readonly #open: OpenChannel
  readonly #handlers: Handlers<Client>
  readonly #trouble: Trouble
  readonly #explain: Explain
  #session: Promise<Session<Server, Client>> | undefined
  #closed = false

  constructor(protocol: Protocol<Client, Server>, open: OpenChannel, handlers: Handlers<Client>, trouble: Trouble, explain: Explain) {
    this.#protocol = protocol
    this.#open = open
    this.#handlers = handlers
    this.#trouble = trouble
    this.#explain = explain
  }

  /** The standing session, or a new one. Rejects with Unreachable when the node does not answer. */
  session(): Promise<Session<Server, Client>> {
    if (this.#closed) return Promise.reject(new MeshError('Aborted', 'The connection was closed by this program.'))
    if (this.#session !== undefined) return this.#session
    const opening = this.#connect()
    this.#session = opening
    const forget = () => {
      if (this.#session === opening) this.#session = undefined
    }
    opening.then((session) => void session.closed.then(forget), forget)
    return opening
  }

  async call<K extends keyof Server['calls'] & string>(
    name: K,
    body: z.input<Server['calls'][K]['request']>,
    options: PersistOptions = {},
  ): Promise<z.output<Server['calls'][K]['answer']>> {
    const { persist, ...rest } = options
    const once = async () => {
      const session = await this.session()
      try {
        return await session.call(name, body, rest)
      } catch (error) {
        throw isMisunderstood(error) ? await this.#explain(name, error) : error
      }
    }
    try {
      return await (persist === true ? persistently(once, this.#trouble, options.signal) : once())
    } catch (error) {
      // It was made where the answer arrived; here it is known who asked.
      if (error instanceof MeshError) Error.captureStackTrace(error)
      throw error
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    const session = await this.#session?.catch(() => undefined)
    session?.close()
  }

  async #connect(): Promise<Session<Server, Client>> {
    try {
      return clientSession(this.#protocol, await this.#open(this.#protocol), this.#handlers)
    } catch (error) {
      throw toMeshError(error)
    }
  }
}
