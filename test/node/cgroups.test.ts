/** Where control groups are made and what is written there, on directories that look as systems do: version 2, version 1, neither. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { candidatePlaces } from '../../node/executors/cgroup-places.ts'
import { Cgroups } from '../../node/executors/cgroups.ts'
import { overrunOf } from '../../node/executors/overrun.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'batchmesh-cgroups-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function file(path: string, text: string): void {
  mkdirSync(join(root, path, '..'), { recursive: true })
  writeFileSync(join(root, path), text)
}
const text = (path: string) => readFileSync(path, 'utf8')
const fs = 'sys/fs/cgroup'

/** A node in `system.slice/batchmesh.service`, whose slice has limits for its children. */
function unified(): void {
  file('proc/self/cgroup', '0::/system.slice/batchmesh.service\n')
  file(`${fs}/cgroup.controllers`, 'cpu memory pids\n')
  file(`${fs}/cgroup.subtree_control`, 'memory pids\n')
  file(`${fs}/system.slice/cgroup.subtree_control`, 'cpu memory pids\n')
  file(`${fs}/system.slice/batchmesh.service/cgroup.controllers`, 'memory pids\n')
  file(`${fs}/system.slice/batchmesh.service/cgroup.subtree_control`, '')
  file(`${fs}/system.slice/batchmesh.service/cgroup.procs`, `${process.pid}\n`)
}

describe('places for control groups', () => {
  it('of version 2 are below the node’s own group, else beside it below the nearest that has limits for its children', () => {
    unified()
    const service = join(root, fs, 'system.slice/batchmesh.service')
    expect(candidatePlaces(root).map(({ place }) => place)).toEqual(
      [service, join(root, fs, 'system.slice'), join(root, fs)].map((dir) => ({ version: 2, above: { memory: dir, pids: dir } })),
    )
  })

  it('of version 1 are below the node’s own group in each hierarchy, also where version 2 has no controllers', () => {
    file('proc/self/cgroup', '8:pids:/\n4:cpu,memory:/own\n0::/\n')
    mkdirSync(join(root, fs, 'memory/own'), { recursive: true })
    mkdirSync(join(root, fs, 'pids'), { recursive: true })
    mkdirSync(join(root, fs, 'unified'), { recursive: true })
    const memory = join(root, fs, 'memory/own')
    const pids = join(root, fs, 'pids')
    expect(candidatePlaces(root).map(({ place }) => place.above)).toEqual([{ memory, pids }, { memory }, { pids }])
  })

  it('are nowhere on a system without them, which is said', async () => {
    expect(await Cgroups.open({ seed: 's', systemRoot: root })).toContain('no control groups')
  })
})

describe('control groups of version 2', () => {
  it('are limited by what the node lends, and each lane by its task', async () => {
    unified()
    const groups = await Cgroups.open({ seed: 's', memoryBytes: 1000, systemRoot: root })
    if (typeof groups === 'string') throw new Error(groups)
    expect(groups).toMatchObject({ version: 2, limits: { memory: true, processes: true }, why: undefined })
    const service = join(root, fs, 'system.slice/batchmesh.service')
    expect(text(join(service, 'cgroup.subtree_control'))).toBe('+memory +pids')
    const node = join(service, readdirSync(service).find((name) => /^batchmesh-[0-9a-f]{8}-\d+-/.test(name))!)
    expect([text(join(node, 'memory.max')), text(join(node, 'cgroup.subtree_control'))]).toEqual(['1000', '+memory +pids'])
    const lane = groups.lane(20)
    const dir = join(node, 'lane-1')
    writeFileSync(join(dir, 'memory.swap.max'), 'max')
    lane.limitMemory(500)
    lane.hold(7)
    expect(['memory.max', 'memory.swap.max', 'pids.max', 'cgroup.procs'].map((name) => text(join(dir, name)))).toEqual([
      '500',
      '0',
      '20',
      '7',
    ])
    writeFileSync(join(dir, 'memory.events'), 'low 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 0\n')
    writeFileSync(join(dir, 'pids.events'), 'max 4\n')
    expect(lane.hits()).toEqual({ oomKills: 3, refusedForks: 4 })
  })

  it('that somebody tidied up are made again with their limits when they are entered', async () => {
    unified()
    const groups = await Cgroups.open({ seed: 's', systemRoot: root })
    if (typeof groups === 'string') throw new Error(groups)
    const lane = groups.lane(20)
    lane.limitMemory(500)
    const dir = lane.inside.above.memory!
    rmSync(dir, { recursive: true })
    lane.hold(8)
    expect(existsSync(dir)).toBe(true)
    expect(['memory.max', 'pids.max', 'cgroup.procs'].map((name) => text(join(dir, name)))).toEqual(['500', '20', '8'])
  })
})

describe('what is said of a task that hit a limit', () => {
  const none = { oomKills: 0, refusedForks: 0 }
  const facts = { exitCode: 1, memory: { limitMiB: 64, isAsked: true }, processes: 10 }

  it('is nothing without a hit of its own, whatever those before it had', () => {
    const before = { oomKills: 3, refusedForks: 9 }
    expect(overrunOf(before, before, facts)).toBeUndefined()
    expect(overrunOf(none, none, facts)).toBeUndefined()
  })

  it('is memory before processes; processes only where it failed', () => {
    const both = { oomKills: 1, refusedForks: 1 }
    expect(overrunOf(none, both, facts)?.reason).toBe('MemoryLimitExceeded')
    expect(overrunOf(none, { ...none, refusedForks: 1 }, facts)?.reason).toBe('ProcessLimitExceeded')
    expect(overrunOf(none, { ...none, refusedForks: 1 }, { ...facts, exitCode: 0 })).toBeUndefined()
  })
})
