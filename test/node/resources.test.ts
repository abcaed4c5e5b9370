import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir, totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { freeDiskMiB, lend, measureMachine } from '../../node/resources.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'batchmesh-resources-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function system(files: Record<string, string>) {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  return { systemRoot: root, gpuCommand: ['false'] }
}

describe('what a machine has', () => {
  it('is its cores and memory where nothing limits them', async () => {
    expect(await measureMachine(system({}))).toEqual({
      cores: availableParallelism(),
      memoryMiB: Math.floor(totalmem() / 2 ** 20),
      gpus: 0,
    })
  })

  it('is what its control group allows, version 2, at any level', async () => {
    const group = 'sys/fs/cgroup'
    const has = await measureMachine(
      system({
        'proc/self/cgroup': '0::/a.slice/b.service\n',
        [`${group}/a.slice/cpu.max`]: '50000 100000\n',
        [`${group}/a.slice/b.service/cpu.max`]: 'max 100000\n',
        [`${group}/a.slice/b.service/memory.max`]: `${300 * 2 ** 20}\n`,
        [`${group}/a.slice/memory.max`]: 'max\n',
      }),
    )
    expect(has).toEqual({ cores: 0.5, memoryMiB: 300, gpus: 0 })
  })

  it('is what its control group allows, version 1', async () => {
    const has = await measureMachine(
      system({
        'proc/self/cgroup': '5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/\n',
        'sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us': '25000\n',
        'sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us': '100000\n',
        // Inside of a container its own group is seen as the root.
        'sys/fs/cgroup/memory/memory.limit_in_bytes': `${200 * 2 ** 20}\n`,
        'sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes': '9223372036854771712\n',
      }),
    )
    expect(has).toEqual({ cores: 0.25, memoryMiB: 200, gpus: 0 })
  })

  it.each([
    ['by the tool', { gpuCommand: ['printf', 'GPU 0: A100\\nGPU 1: A100\\n'] }, {}, 2],
    ['by the driver', {}, { 'proc/driver/nvidia/gpus/0000:01:00.0/information': '' }, 1],
    ['by render nodes', {}, { 'dev/dri/renderD128': '', 'dev/dri/renderD129': '', 'dev/dri/card0': '' }, 2],
    ['not by a tool that fails', { gpuCommand: ['no-such-tool'] }, {}, 0],
  ])('counts GPUs %s', async (_how, options, files, gpus) => {
    expect((await measureMachine({ ...system(files), ...options })).gpus).toBe(gpus)
  })

  it('is known though the GPU tool hangs', async () => {
    expect((await measureMachine({ ...system({}), gpuCommand: ['sleep', '1000'] })).gpus).toBe(0)
  })

  it('has free space on a disk', async () => {
    expect(await freeDiskMiB(root)).toBeGreaterThan(0)
  })
})

describe('what a machine lends', () => {
  const has = { cores: 8, memoryMiB: 16_000, gpus: 1 }

  it('is all that it has, or what its owner says', () => {
    expect(lend(has, {})).toEqual(has)
    expect(lend(has, { cores: 0.5, memoryMiB: 1000 })).toEqual({ cores: 0.5, memoryMiB: 1000, gpus: 1 })
    expect(lend(has, { cores: 0 }).cores).toBe(0)
  })

  it('is never more than it has', () => {
    expect(() => lend(has, { cores: 9 })).toThrow('--lend-cpus 9 is more than this machine has: 8 cores')
    expect(() => lend(has, { memoryMiB: 16_001 })).toThrow('--lend-memory 16001 is more than this machine has: 16000 MiB of memory')
    for (const cores of [-1, Number.NaN, Number.POSITIVE_INFINITY])
      expect(() => lend(has, { cores })).toThrow(/--lend-cpus must be a number of 0 or more/)
  })
})
