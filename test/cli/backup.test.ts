/** `mesh backup` and `mesh restore` on a stopped founder's data directory, and the file between them. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { epochJump, numberJump, ownerEpochJump } from '../../coordinator/raise.ts'
import { allRows } from '../../coordinator/restored.ts'
import { type MeshRow, meshKey, storeFormat } from '../../coordinator/rows.ts'
import { openLevelStore } from '../../coordinator/store.ts'
import { exportCalls } from '../../node/export.ts'
import { found, load, saveRegistry } from '../../node/identity.ts'
import { mergeRevocations, type Registry } from '../../node/registry.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { MeshError } from '../../protocols/errors.ts'
import { maxExportRows } from '../../protocols/local.ts'
import { openBackup } from '../../src/mesh/backup-file.ts'
import { Lab } from './lab.ts'

let lab: Lab
let root: string
let dataDir: string
let target: string

const mesh: MeshRow = { format: storeFormat, ownerEpoch: 3, nextJobUid: 5, nextReservationId: 2 }

async function rowsOf(directory: string): Promise<Map<string, Uint8Array>> {
  const store = await openLevelStore(join(directory, 'coordinator'))
  const rows = new Map<string, Uint8Array>()
  for await (const [key, value] of store.scan(allRows)) rows.set(key, value)
  await store.close()
  return rows
}

beforeEach(async () => {
  lab = new Lab()
  lab.mesh.down = new MeshError('Unreachable')
  root = await mkdtemp(join(tmpdir(), 'batchmesh-backup-'))
  dataDir = join(root, 'founder')
  target = join(root, 'elsewhere', 'deep')
  lab.env.BATCHMESH_DATA = dataDir
  await found(dataDir, { name: 'tower' })
  await mkdir(join(dataDir, 'coordinator'))
  const store = await openLevelStore(join(dataDir, 'coordinator'))
  const jobs = Array.from({ length: 3 }, (_, i) => [`job/000000000${i + 1}`, encode({ uid: i + 1 })] as const)
  const tasks = Array.from({ length: 250 }, (_, i) => [`spec/0000000001/${i}`, new Uint8Array(20_000).fill(i)] as const)
  await store.write(new Map([[meshKey, encode(mesh)], ...jobs, ...tasks]))
  await store.close()
})
afterEach(async () => {
  lab.close()
  await rm(root, { recursive: true, force: true })
})

const backup = (...more: string[]) => lab.run('mesh', 'backup', join(root, 'b'), ...more)
const restore = (...more: string[]) => lab.run('mesh', 'restore', join(root, 'b'), '--data', target, ...more)

describe('a backup', () => {
  it('holds identity and rows, is its owner’s alone, and is restored with raised counters', async () => {
    const made = await backup()
    expect(made.stdout).toMatch(/with 3 jobs\. Blobs are not in it\.\nIt holds the mesh’s root key in clear/)
    expect((await stat(join(root, 'b'))).mode & 0o777).toBe(0o600)
    const put = await restore()
    expect(put, put.stderr).toMatchObject({ code: 0, stderr: '' })
    const [before, after] = [(await load(dataDir))!, (await load(target))!]
    expect(after.record).toEqual(before.record)
    expect(after.founder!.rootKey.raw).toEqual(before.founder!.rootKey.raw)
    expect(after.founder!.registry.serial).toBeGreaterThan(before.founder!.registry.serial)
    const [rows, original] = [await rowsOf(target), await rowsOf(dataDir)]
    expect(decode(rows.get(meshKey)!)).toEqual({
      format: storeFormat,
      ownerEpoch: 3 + ownerEpochJump,
      nextJobUid: 5 + numberJump,
      nextReservationId: 2 + numberJump,
      epochFloor: epochJump,
    })
    for (const [key, value] of original) if (key !== meshKey) expect(rows.get(key), key).toEqual(value)
    expect(rows.size).toBe(original.size)
    expect(await readdir(target), 'nothing is left of the work').toEqual(['coordinator', 'identity'])
  })

  it('that is encrypted shows no key, and opens with its passphrase only', async () => {
    lab.files({ right: 'correct horse\n', wrong: 'battery staple\n' })
    expect((await backup('--passphrase-file', 'right')).stdout).not.toMatch('in clear')
    const bytes = await readFile(join(root, 'b'))
    expect(bytes.includes('root-key')).toBe(false)
    expect((await restore()).stderr).toMatch('is encrypted: give its passphrase')
    expect((await restore('--passphrase-file', 'wrong')).stderr).toMatch('is encrypted with another passphrase')
    expect(await readdir(root), 'a refused restore leaves nothing').toEqual(['b', 'founder'])
    lab.stdin = 'correct horse'
    expect(await restore('--passphrase-file', '-')).toMatchObject({ code: 0 })
    expect((await load(target))!.founder).toBeDefined()
  })

  it('does not replace a file unless it is told to, and leaves nothing when it fails', async () => {
    await writeFile(join(root, 'b'), 'precious')
    expect(await backup()).toMatchObject({ code: 2, stderr: expect.stringMatching('is there already') })
    expect(await readFile(join(root, 'b'), 'utf8')).toBe('precious')
    await rm(join(dataDir, 'coordinator'), { recursive: true })
    await writeFile(join(dataDir, 'coordinator'), 'no directory')
    expect((await backup('--replace')).code).toBe(1)
    expect(await readFile(join(root, 'b'), 'utf8')).toBe('precious')
    expect(await readdir(root)).toEqual(['b', 'founder'])
  })

  it('is made on the founder only', async () => {
    lab.env.BATCHMESH_DATA = join(root, 'nobody')
    expect(await backup()).toMatchObject({ code: 2, stderr: expect.stringMatching('belongs to no mesh') })
  })
})

describe('a restore', () => {
  it.each([
    ['cut short', (bytes: Buffer) => bytes.subarray(0, -5)],
    ['changed in one bit', (bytes: Buffer) => Buffer.from(bytes.map((byte, at) => (at === 5000 ? byte ^ 1 : byte)))],
    ['empty', () => Buffer.alloc(0)],
    ['something else', () => Buffer.from('#!/bin/sh\n'.repeat(50))],
    ['of a newer format', (bytes: Buffer) => Buffer.from(bytes.toString('latin1').replace('backup 1\n', 'backup 2\n'), 'latin1')],
  ])('refuses a file that is %s, and writes nothing', async (_, damage) => {
    await backup()
    await writeFile(join(root, 'b'), damage(await readFile(join(root, 'b'))))
    expect(await restore()).toMatchObject({ code: 2, stderr: expect.stringMatching(/is damaged|is no backup|of format 2/) })
    expect(await readdir(root)).toEqual(['b', 'founder'])
  })

  it('is not restored to where a file stands in the way', async () => {
    await backup()
    await writeFile(join(root, 'elsewhere'), '')
    expect(await restore()).toMatchObject({ code: 2, stderr: expect.stringMatching(/The data directory .*deep cannot be made: /) })
  })

  it('refuses a data directory that belongs to a mesh, and leaves it as it is', async () => {
    await backup()
    const before = await rowsOf(dataDir)
    expect(await lab.run('mesh', 'restore', join(root, 'b'))).toMatchObject({ code: 2, stderr: expect.stringMatching('is not empty') })
    expect(await rowsOf(dataDir)).toEqual(before)
  })

  it('refuses the rows of a newer version, and puts nothing in place', async () => {
    const store = await openLevelStore(join(dataDir, 'coordinator'))
    await store.write(new Map([[meshKey, encode({ ...mesh, format: storeFormat + 1 })]]))
    await store.close()
    await backup()
    await mkdir(join(target, 'blobs'), { recursive: true })
    expect((await restore()).stderr).toMatch(`knows formats up to ${storeFormat}`)
    expect(await readdir(target), 'and keeps what was there').toEqual(['blobs'])
  })

  it('withdraws invitations', async () => {
    const { dir, founder } = (await load(dataDir))!
    const invitation = { secretHash: new Uint8Array(32), roles: ['worker' as const], expires: Date.now() + 60_000, usesLeft: 1 }
    await saveRegistry(dir, { ...founder!.registry, invitations: [invitation] })
    await backup()
    await restore()
    expect((await load(target))!.founder!.registry.invitations).toEqual([])
  })
})

it('an encrypted file whose head was changed, with a checksum to match, is refused', async () => {
  lab.files({ key: 'x' })
  await backup('--passphrase-file', 'key')
  const { createHash } = await import('node:crypto')
  const bytes = await readFile(join(root, 'b'))
  const changed = Buffer.from(bytes.subarray(0, -32).toString('latin1').replace('"name":"tower"', '"name":"power"'), 'latin1')
  await writeFile(join(root, 'b'), Buffer.concat([changed, createHash('sha256').update(changed).digest()]))
  expect((await openBackup(join(root, 'b'))).head.name).toBe('power')
  expect((await restore('--passphrase-file', 'key')).stderr).toMatch('its authentication fails')
  expect(await readdir(root)).toEqual(['b', 'founder'])
})

describe('an export', () => {
  it('shows the rows as they stood at its begin, in pages, whatever is written meanwhile', async () => {
    const store = await openLevelStore(join(root, 'rows'))
    const rows = Array.from({ length: maxExportRows + 10 }, (_, i) => [`k${String(i).padStart(6, '0')}`, encode(i)] as const)
    await store.write(new Map(rows))
    const { exportRows } = exportCalls(() => store.scan(allRows), { closed: new Promise(() => {}) })
    const ask = (begin: boolean) => exportRows({ begin }, {} as never)
    const first = await ask(true)
    expect(first).toMatchObject({ done: false, rows: { length: maxExportRows } })
    await store.write(
      new Map([
        [rows.at(-1)![0], undefined],
        ['k999999', encode('later')],
      ]),
    )
    const second = await ask(false)
    expect(second.done).toBe(true)
    expect([...first.rows, ...second.rows].map(([key]) => key)).toEqual(rows.map(([key]) => key))
    await expect(async () => ask(false)).rejects.toThrow('No export was begun')
    await store.close()
  })

  it('is refused on a machine that is not the coordinator', async () => {
    const { exportRows } = exportCalls(undefined, { closed: new Promise(() => {}) })
    await expect(async () => exportRows({ begin: true }, {} as never)).rejects.toThrow('is not the coordinator')
  })
})

describe('S1: a list of revoked machines that a restored founder does not remember', () => {
  const member = { name: 'm', roles: ['worker' as const], since: 0, expires: 100, revoked: false }
  const registry: Registry = { serial: 9, revocationsNumber: 2, invitations: [], members: { known: member, other: member } }

  it('is taken in whole: nobody on it becomes a member again, and the next list is newer', () => {
    const merged = mergeRevocations(registry, {
      number: 4,
      revoked: [
        { peer: 'known', until: 300 },
        { peer: 'unknown', until: 50 },
      ],
    })!
    expect(merged.revocationsNumber).toBe(5)
    expect(merged.members).toEqual({
      known: { ...member, expires: 300, revoked: true },
      other: member,
      unknown: { name: '', roles: [], since: 0, expires: 50, revoked: true },
    })
  })

  it('changes nothing when it is not newer than the registry', () => {
    expect(mergeRevocations(registry, { number: 2, revoked: [{ peer: 'known', until: 300 }] })).toBeUndefined()
  })
})
