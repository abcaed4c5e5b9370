/**
 * Conversations over a channel: requests with answers, and notes without. Both ends can call.
 *
 * A frame is a MessagePack array: `[0, id, name, body]` request, `[1, id, body]` answer, `[2, id, code, message]`
 * refusal, `[3, name, body]` note. Bodies are checked against the conversation's schemas on arrival; a body that does
 * not fit is refused with InvalidRequestBody, anything that is not such a frame ends the channel.
 *
 * Several requests are in flight at once (`maxInFlight` bounds what a peer may make the other side hold: beyond it
 * requests are answered ServerBusy). A request counts until its answer has left, so that a peer that asks and never reads
 * is not read from either. Order: notes and requests are handed over in the order sent; answers come as they
 * are ready.
 */
import type { z } from 'zod'
import { decode, encode, encodeParts } from './codec.ts'
import { isErrorCode, MeshError, toMeshError } from './errors.ts'
import type { AbortOptions, Channel, CloseReason, Remote, Role, Service } from './wire.ts'

export interface CallShape {
  request: z.ZodType
  answer: z.ZodType
}
export type Calls = Record<string, CallShape>
export type Notes = Record<string, z.ZodType>

/** What one end of a conversation offers the other. */
export interface Side<C extends Calls = Calls, N extends Notes = Notes> {
  calls: C
  notes: N
}

/** A protocol: its id, who may open it, its limits, and what each end understands. */
export interface Protocol<Client extends Side = Side, Server extends Side = Side> extends Service {
  /** Understood by the end that opened the channel. */
  client: Client
  /** Understood by the end that serves it. */
  server: Server
  /** Requests one peer may have waiting at the other. */
  maxInFlight: number
  /** Default deadline of a call. */
  timeoutMs: number
}

export function defineProtocol<CC extends Calls, CN extends Notes, SC extends Calls, SN extends Notes>(protocol: {
  protocol: string
  requires: readonly Role[] | 'anyone'
  maxFrameBytes: number
  maxInFlight: number
  timeoutMs: number
  client: Side<CC, CN>
  server: Side<SC, SN>
}): Protocol<Side<CC, CN>, Side<SC, SN>> {
  return protocol
}

export type CallHandlers<S extends Side> = {
  [K in keyof S['calls']]: (
    request: z.output<S['calls'][K]['request']>,
    context: { signal: AbortSignal; remote: Remote },
  ) => Promise<z.input<S['calls'][K]['answer']>> | z.input<S['calls'][K]['answer']>
}
export type NoteHandlers<S extends Side> = {
  [K in keyof S['notes']]: (body: z.output<S['notes'][K]>, remote: Remote) => void
}
export interface Handlers<S extends Side> {
  calls: CallHandlers<S>
  notes: NoteHandlers<S>
}

export interface CallOptions extends AbortOptions {
  /** Deadline; the protocol's default otherwise. */
  timeoutMs?: number
}

const REQUEST = 0
const ANSWER = 1
const REFUSAL = 2
const NOTE = 3

type Limits = Pick<Protocol, 'maxInFlight' | 'timeoutMs' | 'maxFrameBytes'>

interface Waiting {
  name: string
  resolve: (body: unknown) => void
  reject: (error: Error) => void
}

/** One end of a conversation: `Theirs` is what the other end understands, `Mine` what this end does. */
export class Session<Theirs extends Side = Side, Mine extends Side = Side> {
  readonly closed: Promise<CloseReason>
  readonly #channel: Channel
  readonly #theirs: Theirs
  readonly #mine: Mine
  readonly #limits: Limits
  readonly #handlers: Handlers<Mine>
  readonly #waiting = new Map<number, Waiting>()
  readonly #ended = new AbortController()
  #serving = 0
  /** Set while more is queued here than the peer takes. */
  #draining: Promise<void> | undefined
  #lastId = 0

  constructor(channel: Channel, theirs: Theirs, mine: Mine, handlers: Handlers<Mine>, limits: Limits) {
    this.#channel = channel
    this.#theirs = theirs
    this.#mine = mine
    this.#handlers = handlers
    this.#limits = limits
    this.closed = channel.closed.then((reason) => {
      this.#ended.abort(new MeshError('Unreachable', 'The connection closed before the answer came.'))
      for (const [id, waiting] of this.#waiting) {
        this.#waiting.delete(id)
        waiting.reject(new MeshError('Unreachable', `The connection closed before ${waiting.name} was answered.`))
      }
      return reason
    })
    channel.receive((frame) => this.#onFrame(frame))
  }

  get remote(): Remote {
    return this.#channel.remote
  }

  get isClosed(): boolean {
    return this.#ended.signal.aborted
  }

  /** Asks the other end. Rejects with the code it refused with, OperationTimedOut, Aborted, or Unreachable when the channel ends first. */
  async call<K extends keyof Theirs['calls'] & string>(
    name: K,
    body: z.input<Theirs['calls'][K]['request']>,
    options: CallOptions = {},
  ): Promise<z.output<Theirs['calls'][K]['answer']>> {
    if (this.isClosed) throw new MeshError('Unreachable', `The connection is closed; ${name} was not sent.`)
    if (options.signal?.aborted) throw new MeshError('Aborted')
    this.#lastId += 1
    const id = this.#lastId
    const timeoutMs = options.timeoutMs ?? this.#limits.timeoutMs
    const request = encodeParts([REQUEST, id, name], body)
    if (lengthOf(request) > this.#limits.maxFrameBytes)
      throw new MeshError('FrameTooLarge', `${name}: the request is too large; send less at once.`)
    const answer = await new Promise<unknown>((resolve, reject) => {
      const forget = (error: Error) => {
        done()
        reject(error)
      }
      const timer = setTimeout(() => forget(new MeshError('OperationTimedOut', `${name}: no answer within ${timeoutMs} ms.`)), timeoutMs)
      const onAbort = () => forget(new MeshError('Aborted'))
      options.signal?.addEventListener('abort', onAbort, { once: true })
      const done = () => {
        clearTimeout(timer)
        options.signal?.removeEventListener('abort', onAbort)
      }
      this.#waiting.set(id, {
        name,
        resolve: (value) => {
          done()
          resolve(value)
        },
        reject: (error) => {
          done()
          reject(error)
        },
      })
      this.#channel.send(request.frame, request.tail)
    }).finally(() => this.#waiting.delete(id))
    const parsed = this.#theirs.calls[name]!.answer.safeParse(answer)
    if (!parsed.success)
      throw new MeshError('InvalidRequestBody', `${name}: the answer does not fit the protocol: ${firstIssue(parsed.error)}`)
    return parsed.data as z.output<Theirs['calls'][K]['answer']>
  }

  /** Tells the other end something; no answer comes. False means back-pressure: see {@link Channel.send}. */
  note<K extends keyof Theirs['notes'] & string>(name: K, body: z.input<Theirs['notes'][K]>): boolean {
    return this.#send(encode([NOTE, name, body]))
  }

  /** Whether more is queued here than the peer takes: what it can do without is better not said now. */
  get isFull(): boolean {
    return this.#draining !== undefined
  }

  drained(options?: AbortOptions): Promise<void> {
    return this.#channel.drained(options)
  }

  close(): void {
    this.#channel.close('local')
  }

  #onFrame(bytes: Uint8Array): void {
    let frame: unknown
    try {
      frame = decode(bytes)
    } catch {
      return this.#channel.close('protocol-error')
    }
    if (!Array.isArray(frame)) return this.#channel.close('protocol-error')
    const [kind, first, second, third] = frame as unknown[]
    if (kind === REQUEST && typeof first === 'number' && typeof second === 'string') this.#onRequest(first, second, third)
    else if (kind === ANSWER && typeof first === 'number') this.#waiting.get(first)?.resolve(second)
    else if (kind === REFUSAL && typeof first === 'number' && typeof second === 'string') this.#onRefusal(first, second, third)
    else if (kind === NOTE && typeof first === 'string') this.#onNote(first, second)
    else this.#channel.close('protocol-error')
  }

  #onRefusal(id: number, code: string, message: unknown): void {
    const text = typeof message === 'string' ? message : undefined
    const waiting = this.#waiting.get(id)
    // Said from this end's view: the text came from a peer that cannot know what it does not know.
    const isUnknown = waiting !== undefined && code === 'UnsupportedVersion' && text === unknownRequest(waiting.name)
    const shown = isUnknown
      ? `The other side does not know the request ${waiting.name}: it runs an older version of Batchmesh. Upgrade it.`
      : text
    waiting?.reject(new MeshError(isErrorCode(code) ? code : 'InternalError', shown))
  }

  #onNote(name: string, body: unknown): void {
    const schema = Object.hasOwn(this.#mine.notes, name) ? this.#mine.notes[name] : undefined
    // A note of a newer version is skipped: peers of neighbouring versions work together.
    if (schema === undefined) return
    const parsed = schema.safeParse(body)
    if (!parsed.success) return this.#channel.close('protocol-error')
    const handler = this.#handlers.notes[name as keyof Mine['notes']] as (body: unknown, remote: Remote) => void
    handler(parsed.data, this.remote)
  }

  #send(frame: Uint8Array, tail?: Uint8Array): boolean {
    const isTaken = this.#channel.send(frame, tail)
    if (!isTaken && !this.isClosed)
      this.#draining ??= this.#channel.drained().then(() => {
        this.#draining = undefined
      })
    return isTaken
  }

  /** A request that does not count as in flight; nothing more is read before the peer has taken what it was told. */
  #refuseUnserved(id: number, error: MeshError): void {
    this.#refuse(id, error)
    if (this.#draining === undefined) return
    this.#channel.pause()
    void this.#draining.then(() => this.#channel.resume())
  }

  #onRequest(id: number, name: string, body: unknown): void {
    if (this.#serving >= this.#limits.maxInFlight) return this.#refuseUnserved(id, new MeshError('ServerBusy'))
    const shape = Object.hasOwn(this.#mine.calls, name) ? this.#mine.calls[name] : undefined
    if (shape === undefined) return this.#refuseUnserved(id, new MeshError('UnsupportedVersion', unknownRequest(name)))
    const parsed = shape.request.safeParse(body)
    if (!parsed.success) return this.#refuseUnserved(id, new MeshError('InvalidRequestBody', `${name}: ${firstIssue(parsed.error)}`))
    const handler = this.#handlers.calls[name as keyof Mine['calls']] as (request: unknown, context: object) => unknown
    this.#serving += 1
    void (async () => {
      try {
        const answer = await handler(parsed.data, { signal: this.#ended.signal, remote: this.remote })
        const parts = encodeParts([ANSWER, id], answer)
        // Refused alone: sent, it would end the channel with everything else on it.
        if (lengthOf(parts) > this.#limits.maxFrameBytes)
          throw new MeshError('FrameTooLarge', `${name}: the answer is too large; ask for less at once.`)
        this.#send(parts.frame, parts.tail)
      } catch (error) {
        this.#refuse(id, toMeshError(error))
      } finally {
        await this.#draining
        this.#serving -= 1
      }
    })()
  }

  #refuse(id: number, error: MeshError): void {
    this.#send(encode([REFUSAL, id, error.code, error.message]))
  }
}

function lengthOf({ frame, tail }: { frame: Uint8Array; tail?: Uint8Array }): number {
  return frame.length + (tail?.length ?? 0)
}

/** How a peer refuses a call of a newer version; since 0.1, so that newer peers know it when they hear it. */
function unknownRequest(name: string): string {
  return `This peer does not know the request ${name}.`
}

/** The end that opened the channel. */
export function clientSession<C extends Side, S extends Side>(
  protocol: Protocol<C, S>,
  channel: Channel,
  handlers: Handlers<C>,
): Session<S, C> {
  return new Session(channel, protocol.server, protocol.client, handlers, protocol)
}

/** The end that accepted the channel. */
export function serverSession<C extends Side, S extends Side>(
  protocol: Protocol<C, S>,
  channel: Channel,
  handlers: Handlers<S>,
): Session<C, S> {
  return new Session(channel, protocol.client, protocol.server, handlers, protocol)
}

/** The first thing wrong, as "path: message". */
export function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0]
  if (issue === undefined) return 'not valid'
  const path = issue.path.join('.')
  return path === '' ? issue.message : `${path}: ${issue.message}`
}
