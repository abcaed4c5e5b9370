import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { verifyManifest } from '../../node/blobs/manifests.ts'
import { buildDirectory } from '../../node/store/directory.ts'
import { blobsProtocol, manifestSchema, maxFileBytes, maxIds, maxLeavesBytes, smallBytes } from '../../protocols/blobs.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { idOf, leavesOf, MiB } from '../support/blob-peers.ts'

const server = blobsProtocol.server.calls
const bytes = randomBytes(2 * MiB + 1)
const id = idOf(bytes)
const file = { kind: 'file' as const, size: bytes.length, leaves: leavesOf(bytes) }

describe('messages', () => {
  it('come back as they were sent', () => {
    const messages: [keyof typeof server, 'request' | 'answer', unknown][] = [
      ['manifests', 'request', { ids: [id] }],
      ['manifests', 'answer', { items: [null, file, { kind: 'file', size: 1, leaves: new Uint8Array(32), content: Uint8Array.of(1) }] }],
      ['chunk', 'request', { id, index: 3 }],
      ['chunk', 'answer', { data: bytes.subarray(0, MiB) }],
      ['have', 'answer', { have: [true, false] }],
      ['providers', 'request', { id, seed: true }],
      ['providers', 'answer', { peers: ['peer'], addresses: { peer: ['/ip4/10.0.0.1/tcp/4001'] } }],
      ['chunks', 'request', { id }],
      ['chunks', 'answer', { have: Uint8Array.of(5) }],
      ['putSmall', 'request', { items: [{ id, data: Uint8Array.of(1), owner: 'job:1' }] }],
      ['putSmall', 'answer', { results: [null, { code: 'StoreFull', message: 'Full.' }] }],
      ['offer', 'request', { id, size: bytes.length, leaves: file.leaves, owner: 'job:1' }],
      ['offer', 'answer', { complete: false, missing: Uint8Array.of(7) }],
      ['putChunk', 'request', { id, index: 0, data: new Uint8Array(10) }],
      ['pin', 'answer', { absent: [id] }],
      ['unpinAll', 'request', { name: 'job:12' }],
    ]
    for (const [name, side, message] of messages) {
      const parsed = server[name][side].parse(decode(encode(message)))
      expect(encode(parsed)).toEqual(encode(message))
    }
  })

  it('that ask for or claim too much are refused', () => {
    const refused: [keyof typeof server, 'request' | 'answer', unknown][] = [
      ['manifests', 'request', { ids: [] }],
      ['manifests', 'request', { ids: Array.from({ length: maxIds + 1 }, () => id) }],
      ['manifests', 'request', { ids: ['../../etc/passwd'] }],
      ['manifests', 'answer', { items: [] }],
      ['chunk', 'answer', { data: new Uint8Array(MiB + 1) }],
      ['chunk', 'answer', { data: 'text' }],
      ['chunk', 'request', { id, index: -1 }],
      ['chunk', 'request', { id, index: 0.5 }],
      ['providers', 'answer', { peers: Array.from({ length: 17 }, () => 'peer') }],
      ['providers', 'answer', { peers: [], addresses: { peer: Array.from({ length: 9 }, () => '/ip4/10.0.0.1/tcp/1') } }],
      ['providers', 'answer', { peers: [], addresses: { peer: ['x'.repeat(257)] } }],
      ['providers', 'answer', { peers: [], addresses: Object.fromEntries(Array.from({ length: 17 }, (_, n) => [n, []])) }],
      ['chunks', 'answer', { have: new Uint8Array(maxLeavesBytes / 256 + 1) }],
      ['offer', 'request', { id, size: maxFileBytes + 1, leaves: new Uint8Array(32) }],
      ['offer', 'request', { id, size: 1, leaves: new Uint8Array(maxLeavesBytes + 32) }],
      ['offer', 'request', { id, size: 1, leaves: new Uint8Array(31) }],
      ['putSmall', 'request', { items: [{ id, data: new Uint8Array(1), owner: 'x'.repeat(129) }] }],
    ]
    for (const [name, side, message] of refused) expect(server[name][side].safeParse(message).success, `${name} ${side}`).toBe(false)
    expect(
      manifestSchema.safeParse({ kind: 'file', size: 5, leaves: new Uint8Array(32), content: new Uint8Array(smallBytes + 1) }).success,
    ).toBe(false)
  })
})

describe('B1: a manifest is believed only when the id can be built from it', () => {
  it('a right one is', async () => {
    expect(await verifyManifest(id, file)).toMatchObject({ kind: 'file', size: bytes.length })
  })

  it('one with another size, another number of chunks or another digest is not', async () => {
    const other = new Uint8Array(file.leaves)
    other[40]! ^= 1
    const wrong = [
      { ...file, size: bytes.length - 1 },
      { ...file, size: bytes.length + 1 },
      { ...file, size: 0 },
      { ...file, size: maxFileBytes },
      { ...file, leaves: file.leaves.subarray(32) },
      { ...file, leaves: other },
      { kind: 'directory' as const, block: new Uint8Array(10) },
      { kind: 'directory' as const, block: new Uint8Array() },
    ]
    for (const manifest of wrong) await expect(verifyManifest(id, manifest)).rejects.toMatchObject({ code: 'BlobCorrupt' })
  })

  it('one of a small file with other content or of a larger kind is not', async () => {
    const small = Buffer.from('small')
    const smallId = idOf(small)
    const leaves = leavesOf(small)
    expect(await verifyManifest(smallId, { kind: 'file', size: 5, leaves, content: small })).toMatchObject({ kind: 'content' })
    const wrong = [
      { kind: 'file' as const, size: 5, leaves, content: Buffer.from('other') },
      { kind: 'file' as const, size: 4, leaves, content: small },
      { kind: 'file' as const, size: MiB + 1, leaves },
      { kind: 'directory' as const, block: small },
    ]
    for (const manifest of wrong) await expect(verifyManifest(smallId, manifest)).rejects.toMatchObject({ code: 'BlobCorrupt' })
  })

  it('a directory under another id is not, so none can contain itself', async () => {
    const empty = await buildDirectory([])
    const outer = await buildDirectory([{ name: 'd', ...empty }])
    const block = outer.nodes[0]!.block
    expect(await verifyManifest(outer.id, { kind: 'directory', block })).toMatchObject({ kind: 'directory' })
    await expect(verifyManifest(empty.id, { kind: 'directory', block })).rejects.toMatchObject({ code: 'BlobCorrupt' })
  })
})
