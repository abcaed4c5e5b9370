/** What a machine can do to its node: a disk that takes nothing, damaged data. */
import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { MeshLab } from './support/mesh-lab.ts'
import { lendAll, lendNone, submit, succeed } from './support/work.ts'

const isRoot = process.getuid?.() === 0
if (!isRoot) console.log('skipped: a file system that is read-only needs root, to mount one')

const quiet = ['--port', '0', '--listen', '127.0.0.1', '--no-mdns']

describe('a start of a node', () => {
  it.skipIf(!isRoot)('on a read-only file system is refused with the directory and a way out', async (t) => {
    const lab = await MeshLab.create(t)
    const script = `mount --bind ${lab.root} ${lab.root} && mount -o remount,ro,bind ${lab.root} && exec "$0" "$@"`
    const within = ['unshare', '--mount', 'sh', '-c', script]
    const { code, stderr } = await lab.cli('n', ['up', '--data', lab.dataDir('n'), ...quiet], { within })
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/^batchmesh: The data directory \S+ cannot be written: EROFS: .*choose another with --data/m)
  })
})

describe('a coordinator whose database is damaged', () => {
  it('L2 L5: does not start with a part of it, says what to do, and started without it goes on with its machines', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder', { args: lendNone })
    await lab.up('worker', { join: founder, args: lendAll })
    await submit(lab, founder, 'j', [{ id: 't', commandLine: 'echo before' }])
    await succeed(lab, founder, 'j')
    await founder.kill()
    const dir = join(founder.dataDir, 'coordinator')
    const log = join(dir, (await readdir(dir)).find((name) => name.endsWith('.log'))!)
    const bytes = await readFile(log)
    bytes[20]! ^= 1
    await writeFile(log, bytes)
    const refused = await lab.cli(founder, ['up', '--data', founder.dataDir, ...quiet])
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(
      /^batchmesh: The coordinator's database \S+ cannot be opened: it is damaged, .*Restore it from a backup/m,
    )
    await rename(dir, join(lab.root, 'damaged'))
    // What a restore that was killed leaves holds the root key of a mesh.
    await mkdir(join(founder.dataDir, 'restoring-0123', 'identity'), { recursive: true })
    await lab.up('founder', { args: lendNone })
    expect(await readdir(founder.dataDir)).not.toContain('restoring-0123')
    await submit(lab, 'founder', 'j2', [{ id: 't', commandLine: 'echo after' }])
    await succeed(lab, 'founder', 'j2')
  })
})
