import { MemoryBlockstore } from 'blockstore-core/memory'
import { importer } from 'ipfs-unixfs-importer'
import { describe, expect, it } from 'vitest'
import { buildDirectory, type DirectoryLink, directoryChildren } from '../../node/store/directory.ts'
import { chunkBytes, fileRoot, parseBlobId, sha256 } from '../../node/store/unixfs.ts'

const MiB = 1 << 20

async function reference(source: { path: string; content?: AsyncIterable<Uint8Array> | Uint8Array }[]): Promise<string> {
  let last: string | undefined
  const candidates = source.map((entry) => entry as { path: string; content: Uint8Array })
  for await (const entry of importer(candidates, new MemoryBlockstore(), { profile: 'unixfs-v1-2025', blockWriteConcurrency: 1 }))
    last = entry.cid.toString()
  return last!
}

function patterned(size: number): Uint8Array {
  const bytes = new Uint8Array(size)
  for (let i = 0; i < size; i += 4096) bytes[i] = (i >> 12) % 251
  return bytes
}

function leavesOf(bytes: Uint8Array): Uint8Array {
  const digests: Uint8Array[] = []
  for (let at = 0; at < bytes.length || at === 0; at += chunkBytes) digests.push(sha256(bytes.subarray(at, at + chunkBytes)))
  return Buffer.concat(digests)
}

function file(name: string, bytes: Uint8Array): DirectoryLink {
  return { name, ...fileRoot(leavesOf(bytes), bytes.length) }
}

describe('ids equal those of ipfs-unixfs-importer in the profile unixfs-v1-2025', () => {
  for (const size of [0, 1, MiB - 1, MiB, MiB + 1, 3 * MiB]) {
    it(`for a file of ${size} bytes`, async () => {
      const bytes = patterned(size)
      expect(fileRoot(leavesOf(bytes), size).id).toBe(await reference([{ path: 'f', content: bytes }]))
    })
  }

  it('for a file of 1,025 leaves, whose last node has a single child', async () => {
    const chunk = new Uint8Array(MiB)
    const last = new Uint8Array(5).fill(7)
    async function* content() {
      for (let i = 0; i < 1024; i++) yield chunk
      yield last
    }
    const leaves = Buffer.concat([...Array.from({ length: 1024 }, () => sha256(chunk)), sha256(last)])
    expect(fileRoot(leaves, 1024 * MiB + 5).id).toBe(await reference([{ path: 'f', content: content() }]))
  })

  it('for nested directories', async () => {
    const a = patterned(10)
    const b = patterned(2 * MiB + 3)
    const inner = await buildDirectory([file('b', b), file('ä.txt', a)])
    const outer = await buildDirectory([file('z', a), { name: 'inner', ...inner }, file('a', b)])
    const expected = await reference([
      { path: 'top/z', content: a },
      { path: 'top/inner/b', content: b },
      { path: 'top/inner/ä.txt', content: a },
      { path: 'top/a', content: b },
    ])
    expect(outer.id).toBe(expected)
  })

  it('for an empty directory', async () => {
    expect((await buildDirectory([])).id).toBe(await reference([{ path: 'empty' }]))
  })

  it('for a directory of more than 256 KiB, which is sharded', async () => {
    const content = new Uint8Array([1])
    const names = Array.from({ length: 6000 }, (_, i) => `file-${i}.txt`)
    const built = await buildDirectory(names.map((name) => file(name, content)))
    expect(built.nodes.length).toBeGreaterThan(1)
    expect(built.id).toBe(await reference(names.map((name) => ({ path: `d/${name}`, content }))))

    const blocks = new Map(built.nodes.map((node) => [node.id, node.block]))
    const found: string[] = []
    const walk = (id: string): void => {
      for (const child of directoryChildren(id, blocks.get(id)!)) {
        if (child.kind === 'shard') walk(child.id)
        else found.push(child.name)
      }
    }
    walk(built.id)
    expect(found.toSorted()).toEqual(names.toSorted())
  })
})

describe('what is not of the profile is refused', () => {
  it('a list of leaves that does not fit the size', () => {
    expect(() => fileRoot(new Uint8Array(32), MiB + 1)).toThrow(/has 2 chunks; the list of digests has 1/)
  })

  it('an id of another kind of hash or codec', () => {
    expect(() => parseBlobId('bafyreigdmqpykrgxyaxtlafqpqhzrb7qy2rh75nldvfd4tucqmqqme5yje')).toThrow(/not of the profile/)
    expect(() => parseBlobId('nonsense')).toThrow(/is not a blob id/)
  })

  it('a directory entry whose name leads out', async () => {
    for (const name of ['..', '.', '', 'a/b', 'a\0b', 'x'.repeat(256)]) {
      const built = await buildDirectory([file(name, new Uint8Array(1))])
      expect(() => directoryChildren(built.id, built.nodes.at(-1)!.block)).toThrow(/is not a file name/)
    }
  })
})
