/**
 * How a channel opens. The side that was called answers first, with whether it takes the channel or why not; on the
 * control socket, where no handshake names the protocol, the caller's first frame does.
 */
import { z } from 'zod'
import { decode, encode } from './codec.ts'
import { isErrorCode, MeshError } from './errors.ts'

const requestSchema = z.object({ protocol: z.string().max(256) })
const verdictSchema = z.union([z.object({ ok: z.literal(true) }), z.object({ code: z.string(), message: z.string() })])

/** The caller's first frame on the control socket. */
export function encodeOpening(protocol: string): Uint8Array {
  return encode({ protocol })
}

/** The protocol that the caller asks for; undefined when the frame is no such thing. */
export function decodeOpening(frame: Uint8Array): string | undefined {
  return parse(requestSchema, frame)?.protocol
}

export function encodeAccepted(): Uint8Array {
  return encode({ ok: true })
}

export function encodeRefused(error: MeshError): Uint8Array {
  return encode({ code: error.code, message: error.message })
}

/** Returns when the channel was accepted; throws the refusal. */
export function checkVerdict(frame: Uint8Array): void {
  const verdict = parse(verdictSchema, frame)
  if (verdict === undefined) throw new MeshError('UnsupportedVersion', 'The other side answered in a way that this version does not know.')
  if ('ok' in verdict) return
  throw new MeshError(isErrorCode(verdict.code) ? verdict.code : 'InternalError', verdict.message)
}

function parse<T>(schema: z.ZodType<T>, frame: Uint8Array): T | undefined {
  try {
    return schema.safeParse(decode(frame)).data
  } catch {
    return undefined
  }
}
