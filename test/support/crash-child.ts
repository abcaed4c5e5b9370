/**
 * A process that does one thing on a directory and may die at a failpoint of it: `crash-child.ts THING DIRECTORY [TOKEN]`.
 * Each thing loads only what it needs, can be done again after it broke off, and says on its output what is promised from then on.
 */
import { createHash } from 'node:crypto'
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

const [, , thing, dir, token] = process.argv as [string, string, string, string, string?]
const promise = (text: string) => void process.stdout.write(`${text}\n`)
const bytesOf = (name: string, size: number) => Buffer.alloc(size, name)

const things: Record<string, () => Promise<void>> = {
  async blobs() {
    const { openStore } = await import('../../node/store/store.ts')
    const { closeHashPool } = await import('../../node/store/hash-pool.ts')
    // Years later, when no upload is new any more.
    const store = await openStore(join(dir, 'blobs'), { now: () => Date.now() + 1e11 })
    const put = async (name: string, pin?: string) => {
      const incoming = store.begin()
      await incoming.append(bytesOf(name, 3_000_000))
      return (await incoming.end(pin === undefined ? { cache: true } : { pin })).id
    }
    const kept = await put('kept', 'user')
    promise(`blob ${kept}`)
    await put('swept')
    await store.gc()
    const digest = (from: number) =>
      createHash('sha256')
        .update(bytesOf('kept', 3_000_000).subarray(from, from + (1 << 20)))
        .digest()
    const leaves = Buffer.concat([digest(0), digest(1 << 20), digest(2 << 20)])
    const other = await openStore(join(dir, 'other'))
    const coming = await other.receive(kept, 3_000_000, leaves)
    for (let index = 0; index < coming.partial.chunks; index += 1) await coming.partial.write(index, await store.chunk(kept, index))
    await coming.finish({ pin: 'user' })
    await coming.release()
    const path = other.filePath(kept)
    const spoilt = await readFile(path)
    spoilt[5]! ^= 1
    await rm(path)
    await writeFile(path, spoilt, { mode: 0o444 })
    await other.chunk(kept, 0).catch(() => undefined)
    await store.close()
    await other.close()
    await closeHashPool()
  },
  async directories() {
    const { Directories } = await import('../../node/directories.ts')
    const directories = new Directories(join(dir, 'tasks'))
    const attempt = { jobUid: 1, task: 't', epoch: 1 }
    for (let twice = 0; twice < 2; twice += 1) {
      directories.make(attempt, 'j', undefined)
      directories.seal(attempt, Date.now())
    }
  },
  async identity() {
    const { found, load } = await import('../../node/identity.ts')
    const { Membership } = await import('../../node/membership.ts')
    const known = await load(dir)
    const identity = known ?? (await found(dir, { name: 'me' }))
    promise(`mesh ${identity.record.mesh}`)
    const membership = await Membership.open(identity)
    const founder = membership.founder!
    const invitation = await founder.invite({ roles: ['worker'], expiresMs: 60_000, uses: 1 }, [])
    promise(`invitation ${invitation.token.length > 0}`)
    await membership.adopt(await founder.renew(membership.peer))
    promise(`serial ${membership.certificate.serial}`)
    await membership.takeRevocations((await founder.remember({ number: membership.revocationsNumber + 1, revoked: [] }))!)
    promise(`revocations ${membership.revocationsNumber}`)
  },
  async enrol() {
    const { enrol } = await import('../../node/enrol.ts')
    const { record, peer } = await enrol(dir, token!)
    promise(`member ${peer} of ${record.mesh}`)
  },
  async backup() {
    const { found, load } = await import('../../node/identity.ts')
    const { openLevelStore } = await import('../../coordinator/store.ts')
    const { meshKey, storeFormat } = await import('../../coordinator/rows.ts')
    const { encode } = await import('../../protocols/codec.ts')
    const { backUp } = await import('../../src/mesh/backup.ts')
    const { restoreMesh } = await import('../../src/mesh/restore.ts')
    const [source, backup] = [join(dir, 'source'), join(dir, 'backup')]
    if ((await load(source)) === undefined) {
      await found(source, { name: 'me' })
      await mkdir(join(source, 'coordinator'))
      const store = await openLevelStore(join(source, 'coordinator'))
      await store.write(new Map([[meshKey, encode({ format: storeFormat, ownerEpoch: 1, nextJobUid: 1, nextReservationId: 1 })]]))
      await store.close()
      await backUp({ dataDir: source, file: backup, mesh: undefined })
    }
    promise(`mesh ${(await restoreMesh({ dataDir: dir, file: backup })).mesh}`)
  },
  async restore() {
    const { RestoredStore } = await import('../../coordinator/restored.ts')
    const { openLevelStore } = await import('../../coordinator/store.ts')
    const { meshKey, storeFormat } = await import('../../coordinator/rows.ts')
    const { encode } = await import('../../protocols/codec.ts')
    const path = join(dir, 'coordinator')
    await rm(path, { recursive: true, force: true })
    const store = await openLevelStore(path)
    const restored = new RestoredStore(store, 'peer-of-the-founder')
    await restored.add([[meshKey, encode({ format: storeFormat, ownerEpoch: 1, nextJobUid: 1, nextReservationId: 1 })]])
    await restored.finish()
    promise('restored')
    await store.close()
  },
}

await things[thing]!()
const file = await open(join(dir, 'whole'), 'w')
await file.close()
