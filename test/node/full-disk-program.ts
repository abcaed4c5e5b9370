/** Run on a small file system of its own: a blob store whose disk fills, and has room again. Prints what became of its blobs. */
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { openStore } from '../../node/store/store.ts'
import { MeshError } from '../../protocols/errors.ts'

const dir = process.argv[2]!
const open = () => openStore(join(dir, 'blobs'), { quotaBytes: 1 << 30 })
const small = (n: number) => new TextEncoder().encode(`${n} ${'x'.repeat(3000)}`)

const store = await open()
const taken: string[] = []
const codes = new Set<string>()
const put = async (n: number) => {
  try {
    taken.push(await store.addSmall(small(n), { pin: 'user' }))
  } catch (error) {
    codes.add(error instanceof MeshError ? error.code : String(error))
  }
}
for (let n = 0; n < 20; n += 1) await put(n)
// Not quite to the last byte: the next rows are torn.
const filler = join(dir, 'filler')
for (let mib = 64; mib >= 0; mib -= 1) {
  const isFull = await writeFile(filler, Buffer.alloc(mib << 20)).then(
    () => false,
    () => true,
  )
  if (!isFull) break
}
for (let n = 0; n < 600; n += 1) await put(1000 + n)
const readable = (await Promise.all(taken.map((id) => store.read(id, 0, 4)))).length
await rm(filler)
for (let n = 0; n < 50; n += 1) await put(5000 + n)
await store.close()
const again = await open()
const kept = (await Promise.all(taken.map((id) => again.has(id)))).filter(Boolean).length
await again.close()
const files = await readdir(join(dir, 'blobs', 'db'))
console.log(JSON.stringify({ codes: [...codes], taken: taken.length, readable, kept, files: files.length }))
