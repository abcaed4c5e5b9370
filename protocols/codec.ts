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

/** The value of bytes made by {@link encode}. Throws on anything else; check the shape with a schema before use. */
export function decode(bytes: Uint8Array): unknown {
  return decoder.decode(bytes)
}
