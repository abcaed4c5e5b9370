/**
 * Version 0.1 and today's, on the wire. The messages in golden-0.1/ were made by version 0.1 (record.ts), and its rules
 * were written down beside them. Peers of neighbouring versions work together: what the one says, the other reads.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { decode, encode } from '../../protocols/codec.ts'
import { MeshError } from '../../protocols/errors.ts'
import {
  decodeCertificate,
  decodeRevocations,
  decodeSigned,
  encodeCertificate,
  encodeRevocations,
  encodeSigned,
} from '../../protocols/membership.ts'
import { decodeOffer, encodeOffer } from '../../protocols/offers.ts'
import { checkVerdict, decodeOpening, encodeAccepted, encodeOpening, encodeRefused } from '../../protocols/opening.ts'
import { decodeToken, encodeToken } from '../../protocols/token.ts'
import { type JsonSchema, kinds, plain, rulesOf, sample } from './golden-0.1/samples.ts'

function golden<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`golden-0.1/${name}.json`, import.meta.url), 'utf8')) as T
}
const messages = golden<{ id: string; frame: string; value: unknown }[]>('messages')
const rules = golden<Record<string, JsonSchema>>('rules')
// biome-ignore lint/suspicious/noExplicitAny: each thing has values of its own
const single = golden<any>('single')
const today = new Map(kinds().map((kind) => [kind.id, kind]))

const bytesOf = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'))
const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')

/** The body in a message: of a request [0, id, name, body], an answer [1, id, body], a note [3, name, body], or gossip. */
function bodyIn(frame: unknown): unknown {
  return Array.isArray(frame) ? frame.at(-1) : frame
}

/** Members of enumerations that 0.1 does not know, and why a peer of 0.1 never gets them. */
const threads = 'only tasks of jobs with thread tasks have it: whoever submits or watches one is of 0.2'
const grown: Record<string, string> = {
  'code: "ThreadFailed"': threads,
  'code: "ThreadEnded"': threads,
  'code: "ThreadOutOfMemory"': threads,
  'code: "ThreadHostLost"': threads,
}

describe('what version 0.1 says', () => {
  it('is all still understood: no message of it is gone', () => {
    expect(messages.map(({ id }) => id).filter((id) => !today.has(id))).toEqual([])
    expect(messages.length).toBeGreaterThan(120)
  })

  it.each(messages)('$id is read as 0.1 itself reads it', ({ id, frame, value }) => {
    const body = bodyIn(decode(bytesOf(frame)))
    expect(plain(today.get(id)!.schema.parse(body))).toMatchObject(value as object)
  })

  it.each(messages)('$id has the same bytes when it is said today', ({ id, frame }) => {
    expect(text(encode(today.get(id)!.wrap(bodyIn(decode(bytesOf(frame))))))).toBe(frame)
  })
})

describe('what is said today', () => {
  it.each(messages)('$id, with all that is new in it, fits the rules of 0.1, which leaves aside what it does not know', ({ id }) => {
    const said = bodyIn(decode(encode(today.get(id)!.wrap(sample(today.get(id)!.schema)))))
    const old = z.fromJSONSchema(rules[id] as Parameters<typeof z.fromJSONSchema>[0])
    const read = old.safeParse(said)
    expect(read.success ? [] : read.error.issues).toEqual([])
  })

  it('uses no word in place of another that 0.1 would refuse, but where it is known that none gets there', () => {
    const added: string[] = []
    for (const { id } of messages) compare(rules[id]!, rulesOf(today.get(id)!.schema), id, added)
    expect([...new Set(added.map((line) => line.replace(/^.* (\S+: \S+)$/, '$1')))].filter((line) => !(line in grown))).toEqual([])
  })
})

/** Collects members of enumerations, and options, that only the newer rules have. */
function compare(old: JsonSchema, now: JsonSchema, path: string, added: string[]): void {
  if (old.enum !== undefined)
    for (const member of now.enum ?? []) if (!old.enum.includes(member)) added.push(`${path}: ${JSON.stringify(member)}`)
  for (const [key, part] of Object.entries(old.properties ?? {})) {
    const newer = now.properties?.[key]
    if (newer !== undefined) compare(part, newer, `${path} ${key}`, added)
  }
  if (old.items !== undefined && now.items !== undefined) compare(old.items, now.items, path, added)
}

describe('signed and single things of version 0.1', () => {
  it('certificates, revocation lists and what is signed are read and made alike', () => {
    const { certificate, revocations, signed } = single
    expect(decodeCertificate(bytesOf(certificate.bytes))).toEqual(certificate.value)
    expect(text(encodeCertificate(certificate.value))).toBe(certificate.bytes)
    expect(decodeRevocations(bytesOf(revocations.bytes))).toEqual(revocations.value)
    expect(text(encodeRevocations(revocations.value))).toBe(revocations.bytes)
    const read = decodeSigned(bytesOf(signed.bytes))!
    expect(plain(read)).toEqual(signed.value)
    expect(text(encodeSigned(read))).toBe(signed.bytes)
  })

  it('an invitation is read and made alike', () => {
    const read = decodeToken(single.token.text)
    expect(plain(read)).toEqual(single.token.value)
    expect(encodeToken(read)).toBe(single.token.text)
  })

  it('an offer is read and made alike', () => {
    expect(decodeOffer(bytesOf(single.offer.bytes))).toEqual(single.offer.value)
    expect(text(encodeOffer(single.offer.value))).toBe(single.offer.bytes)
  })

  it('the opening of a channel, its acceptance and its refusal are read and made alike', () => {
    expect(decodeOpening(bytesOf(single.opening.bytes))).toBe(single.opening.value)
    expect(text(encodeOpening(single.opening.value))).toBe(single.opening.bytes)
    expect(() => checkVerdict(bytesOf(single.accepted.bytes))).not.toThrow()
    expect(text(encodeAccepted())).toBe(single.accepted.bytes)
    const { code, message } = single.refused.value
    expect(() => checkVerdict(bytesOf(single.refused.bytes))).toThrow(message)
    expect(text(encodeRefused(new MeshError(code, message)))).toBe(single.refused.bytes)
  })
})
