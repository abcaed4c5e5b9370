import { describe, expect, it } from 'vitest'
import { free } from '../../node/store/chunk-io.ts'

const MiB = 1 << 20

describe('giving back the memory of a chunk', () => {
  it('is done where the chunk is all of a frame that was put together', () => {
    const frame = new Uint8Array(MiB + 60)
    const chunk = frame.subarray(60)
    free(chunk)
    expect(chunk.length).toBe(0)
    expect(frame.buffer.detached).toBe(true)
    // A second time does nothing.
    free(chunk)
  })

  it('is left where another frame may have a part of the buffer', () => {
    // As a socket hands it over: the end of one frame, and the beginning of the next.
    const read = new Uint8Array(64 << 10)
    free(read.subarray(40, read.length - 100))
    expect(read.buffer.detached).toBe(false)
    const large = new Uint8Array(2 * MiB)
    free(large.subarray(0, MiB))
    expect(large.buffer.detached).toBe(false)
  })
})
