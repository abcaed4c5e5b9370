/**
 * The codec of frames and database rows: MessagePack. It is fast, keeps bytes as bytes and is self-describing, so a
 * peer of a neighbouring version can skip members it does not know. What is signed or addressed by its hash uses
 * dag-cbor instead, because MessagePack has no canonical form.
 */
import { Decoder, Encoder } from '@msgpack/msgpack'

const encoder = new Encoder({ ignoreUndefined: true, initialBufferSize: 4096 })
const decoder = new Decoder({ useBigInt64: false })

/** Bytes of a value made of plain objects, arrays, strings, numbers, booleans, null and Uint8Array; `undefined` members are left out. */
export function encode(value: unknown): Uint8Array {
  return encoder.encode(value)
}

/** Bytes from which {@link encodeParts} leaves the end of a message where it lies: below it copying costs less than a second piece. */
const tailBytes = 64 << 10
const noBytes = new Uint8Array()

/**
 * As {@link encode}d `[...head, body]`, in two parts where the last member of the body is many bytes (a chunk of a blob):
 * those are the tail, as they are and not copied.
 */
export function encodeParts(head: readonly unknown[], body: unknown): { frame: Uint8Array; tail?: Uint8Array } {
  const [name, tail] = lastMember(body)
  if (!(tail instanceof Uint8Array) || tail.length < tailBytes) return { frame: encode([...head, body]) }
  const empty = encode([...head, { ...(body as object), [name]: noBytes }])
  // It ends in an empty byte string, `c4 00`; a long one begins with `c6` and four bytes of length (MessagePack: bin format family).
  const frame = new Uint8Array(empty.length + 3)
  frame.set(empty)
  const view = new DataView(frame.buffer, empty.length - 2)
  view.setUint8(0, 0xc6)
  view.setUint32(1, tail.length)
  return { frame, tail }
}

function lastMember(body: unknown): [name: string, value: unknown] {
  const members = typeof body === 'object' && body !== null && !Array.isArray(body) ? Object.entries(body) : []
  return members.at(-1) ?? ['', undefined]
}

/** The value of bytes made by {@link encode}. Throws on anything else; check the shape with a schema before use. */
export function decode(bytes: Uint8Array): unknown {
  return decoder.decode(bytes)
}
