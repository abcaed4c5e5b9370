import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decode, encode, encodeParts } from '../../protocols/codec.ts'

describe('messages in two parts', () => {
  it('laid end to end are the message, with the end of the body not copied', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 100 }), fc.string()), { minLength: 1, maxLength: 3 }),
        // The decoder refuses one name, which would change what the object is.
        fc.dictionary(
          fc.string({ minLength: 1 }).filter((name) => name !== '__proto__'),
          fc.oneof(fc.integer(), fc.string(), fc.uint8Array({ maxLength: 8 })),
        ),
        fc.constantFrom(0, 1, 65_535, 65_536, 65_537, 1 << 20),
        (head, members, bytes) => {
          const data = new Uint8Array(bytes).fill(7)
          // Last, whatever the others are called: names that look like numbers come first in an object.
          const body = { ...members, 'the last': data }
          const { frame, tail } = encodeParts(head, body)
          expect(tail === undefined || tail === data).toBe(true)
          expect(tail !== undefined).toBe(bytes >= 65_536)
          const whole = new Uint8Array(Buffer.concat([frame, tail ?? new Uint8Array()]))
          expect(decode(whole)).toEqual(decode(encode([...head, body])))
        },
      ),
      { numRuns: 60 },
    )
  })

  it('are one where the body does not end in many bytes', () => {
    const data = new Uint8Array(100_000)
    for (const body of [data, [data], { data, after: 1 }, { data: { data } }, null, 'text'])
      expect(encodeParts([1, 2], body)).toEqual({ frame: encode([1, 2, body]) })
  })
})
