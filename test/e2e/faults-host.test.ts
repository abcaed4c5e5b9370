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

describe('a start with damaged settings', () => {
  it('is refused with the file and the setting', async (t) => {
    const lab = await MeshLab.create(t)
    await mkdir(lab.dataDir('n'))
    await writeFile(join(lab.dataDir('n'), 'settings.json'), '{"port": 70000}')
    const { code, stderr } = await lab.cli('n', ['up', '--data', lab.dataDir('n'), ...quiet])
    expect(code).toBe(2)
    expect(stderr).toMatch(/^batchmesh: The settings in \S+settings\.json cannot be used \(port: .*--defaults/)
    expect(await readdir(lab.dataDir('n'))).toEqual(['settings.json'])
  })
})

describe('a start with too few open files', () => {
  // Each of these fails at another step of the start.
  it.skipIf(process.platform !== 'linux').each([28, 32])('(%i) is refused with the limit to raise, not as damage', async (limit) => {
    const lab = await MeshLab.create()
    try {
      const within = ['prlimit', `--nofile=${limit}:${limit}`]
      const { code, stderr } = await lab.cli('n', ['up', '--data', lab.dataDir('n'), ...quiet], { within })
      expect(code).toBe(1)
      expect(stderr).toMatch(/^batchmesh: .*may not open enough files.*ulimit -n 65536/m)
      expect(stderr).not.toContain('away')
    } finally {
      await lab.close()
    }
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
