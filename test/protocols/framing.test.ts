import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { endMarkBytes, FrameDecoder, FrameQueue, FramingError } from '../../protocols/framing.ts'

function encoded(frames: readonly Uint8Array[]): Uint8Array {
  const queue = new FrameQueue()
  for (const frame of frames) queue.push(frame)
  return queue.take(Number.MAX_SAFE_INTEGER) ?? new Uint8Array(0)
}

function decoded(chunks: readonly Uint8Array[], maxFrameBytes = 1 << 20): Uint8Array[] {
  const decoder = new FrameDecoder(maxFrameBytes)
  const frames: Uint8Array[] = []
  for (const chunk of chunks) decoder.push(chunk, frames)
  return frames
}

function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const chunks: Uint8Array[] = []
  let at = 0
  for (const size of sizes) {
    chunks.push(bytes.subarray(at, at + size))
    at += size
  }
  return [...chunks, bytes.subarray(at)]
}

const framesArbitrary = fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 40 })

describe('framing', () => {
  it('writes a length of four bytes, big-endian, before each frame', () => {
    expect([...encoded([new Uint8Array([7, 8, 9]), new Uint8Array(0)])]).toEqual([0, 0, 0, 3, 7, 8, 9, 0, 0, 0, 0])
    expect([...encoded([new Uint8Array(0x010203)]).subarray(0, 4)]).toEqual([0, 1, 2, 3])
  })

  it('gives back every frame, however the stream is cut into chunks', () => {
    fc.assert(
      fc.property(framesArbitrary, fc.array(fc.nat(500), { maxLength: 60 }), (frames, cuts) => {
        expect(decoded(cut(encoded(frames), cuts))).toEqual(frames)
      }),
    )
  })

  it('gives back every frame of a stream that comes byte by byte', () => {
    const frames = [new Uint8Array([1]), new Uint8Array(0), new Uint8Array([2, 3, 4, 5, 6])]
    const bytes = encoded(frames)
    expect(
      decoded(
        cut(
          bytes,
          Array.from(bytes, () => 1),
        ),
      ),
    ).toEqual(frames)
  })

  it('S1: holds little more than its bytes of a frame that comes byte by byte', () => {
    const bytes = 1 << 20
    const decoder = new FrameDecoder(bytes)
    const frames: Uint8Array[] = []
    decoder.push(new Uint8Array([0, 0x10, 0, 0]), frames)
    const before = process.memoryUsage().heapUsed
    for (let at = 0; at < bytes - 1; at += 1) decoder.push(new Uint8Array([at]), frames)
    // A view of each byte would be 100 MiB and more.
    expect((process.memoryUsage().heapUsed - before) / 2 ** 20).toBeLessThan(60)
    decoder.push(new Uint8Array([7]), frames)
    expect(frames).toHaveLength(1)
    expect(frames[0]!.every((byte, at) => byte === (at === bytes - 1 ? 7 : at & 255))).toBe(true)
  })

  it('hands out the queue in pieces of at most the asked size, losing nothing', () => {
    fc.assert(
      fc.property(framesArbitrary, fc.integer({ min: 1, max: 700 }), (frames, maxBytes) => {
        const queue = new FrameQueue()
        for (const frame of frames) queue.push(frame)
        const total = queue.bytes
        const pieces: Uint8Array[] = []
        for (let piece = queue.take(maxBytes); piece !== undefined; piece = queue.take(maxBytes)) pieces.push(piece)
        expect(queue.bytes).toBe(0)
        expect(total).toBe(frames.reduce((sum, frame) => sum + 4 + frame.length, 0))
        expect(pieces.every((piece) => piece.length > 0 && piece.length <= maxBytes)).toBe(true)
        // Only the last piece may be short: several frames go out in one write.
        expect(pieces.slice(0, -1).every((piece) => piece.length === maxBytes)).toBe(true)
        expect(decoded(pieces)).toEqual(frames)
      }),
    )
  })

  it('puts 10,000 small frames into one piece', () => {
    const queue = new FrameQueue()
    for (let at = 0; at < 10_000; at += 1) queue.push(new Uint8Array(20))
    expect(queue.take(1 << 20)?.length).toBe(240_000)
    expect(queue.take(1 << 20)).toBeUndefined()
  })

  it('does not copy a frame that lies whole in one chunk', () => {
    const bytes = encoded([new Uint8Array([1, 2, 3])])
    expect(decoded([bytes])[0]?.buffer).toBe(bytes.buffer)
  })

  it('hands on plain arrays, never a Buffer', () => {
    expect(decoded([Buffer.from(encoded([new Uint8Array([1, 2, 3])]))])[0]?.constructor).toBe(Uint8Array)
  })

  it('refuses a frame over the limit as soon as its length is known, and keeps those before it', () => {
    const decoder = new FrameDecoder(10)
    const frames: Uint8Array[] = []
    expect(() => decoder.push(encoded([new Uint8Array(10), new Uint8Array(11)]).subarray(0, 18), frames)).toThrow(FramingError)
    expect(frames).toEqual([new Uint8Array(10)])
  })

  it('refuses a length of two gigabytes without holding memory for it', () => {
    expect(() => decoded([new Uint8Array([0x7f, 0xff, 0xff, 0xff])])).toThrow(FramingError)
    expect(decoded([new Uint8Array([0, 0xff, 0xff, 0xff, 1])], 1 << 24)).toEqual([])
  })

  it('ends at the end mark and ignores what follows', () => {
    const decoder = new FrameDecoder(100)
    const frames: Uint8Array[] = []
    decoder.push(encoded([new Uint8Array([1])]), frames)
    expect(decoder.ended).toBe(false)
    for (const byte of endMarkBytes()) decoder.push(new Uint8Array([byte]), frames)
    decoder.push(encoded([new Uint8Array([2])]), frames)
    expect(decoder.ended).toBe(true)
    expect(frames).toEqual([new Uint8Array([1])])
  })
})
