/** What a machine can do to its node: a disk that takes nothing, damaged data, a path that works one way only. */
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { MeshLab } from './support/mesh-lab.ts'
import { Network, whyNoNetwork } from './support/netns.ts'
import { cores, counted, jobOf, lendAll, lendNone, sh, submit, succeed, Traces, tasksOf } from './support/work.ts'

const isRoot = process.getuid?.() === 0
if (!isRoot) console.log('skipped: a file system that is read-only needs root, to mount one')
const noNetwork = whyNoNetwork()
if (noNetwork !== undefined) console.warn(`tests between network namespaces are skipped: ${noNetwork}`)

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
    await lab.up('founder', { args: lendNone })
    await submit(lab, 'founder', 'j2', [{ id: 't', commandLine: 'echo after' }])
    await succeed(lab, 'founder', 'j2')
  })
})

describe('a path', () => {
  it.skipIf(noNetwork !== undefined)('L2 L7: that works in one direction only costs what a cut costs, and heals', async (t) => {
    const lab = await MeshLab.create(t)
    const net = await Network.create(['a', 'b', 'c'], t)
    const traces = await Traces.create(lab)
    const at = (host: string) => ({ within: net.within(host), network: ['--port', '0', '--no-mdns'] })
    const founder = await lab.up('founder', { args: lendNone, ...at('a') })
    await lab.up('deaf', { join: founder, args: lendAll, ...at('b') })
    const [starts, gate] = [await traces.file('starts'), await traces.file('gate')]
    const tasks = Array.from({ length: cores }, (_, n) => ({
      id: `t${n}`,
      commandLine: sh(`echo t${n} >> ${starts}; ${Traces.gate(gate)}`),
    }))
    await submit(lab, founder, 'j', tasks, { disconnect: { lostAfterMs: 1000 } })
    await lab.until('all run', async () => (await jobOf(lab, founder, 'j')).counts.running === cores)
    await lab.up('other', { join: founder, args: lendAll, ...at('c') })
    await net.deafen('b')
    await lab.until('they run again elsewhere', async () => (await traces.lines('starts')).length === 2 * cores, { deadlineMs: 120_000 })
    await traces.open('gate')
    await succeed(lab, founder, 'j')
    const ended = await tasksOf(lab, founder, 'j')
    for (const { nodeInfo, executionInfo } of ended) {
      expect(nodeInfo?.machineName).toBe('other')
      expect(executionInfo).toMatchObject({ retryCount: 0, requeueCount: 1 })
    }
    await net.hears('b')
    await lab.until('it is back', async () => (await lab.json(founder, ['machine', 'show', 'deaf'])).connected === true, {
      deadlineMs: 90_000,
    })
    expect(await tasksOf(lab, founder, 'j')).toEqual(ended)
    expect([...counted(await traces.lines('starts')).values()]).toEqual(new Array(cores).fill(2))
  })
})
