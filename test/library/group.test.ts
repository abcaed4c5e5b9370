/** `mesh.group` against a mesh in memory: what it asks of the mesh, and what it refuses. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connect, type GroupOptions, MemberError, type Mesh, MeshError, remoteModule } from '../../src/index.ts'
import { poolOfGroup } from '../../src/library/group/nodes.ts'
import { FakeMesh } from '../cli/fake-mesh.ts'

const work = remoteModule<typeof import('./group-work.ts')>(new URL('./group-work.ts', import.meta.url))

let fake: FakeMesh
let mesh: Mesh
beforeEach(async () => {
  fake = new FakeMesh()
  fake.machines = [
    {
      ...{ name: 'laptop', peer: 'peer-laptop', roles: ['worker'], class: 'dedicated', connected: true, labels: {}, features: ['threads'] },
      ...{ os: 'linux', arch: 'x64', version: '1', isolation: 'bwrap', addresses: [], nodeRootDir: '/tasks', isCoordinator: true },
      ...{ capacity: { cores: 4, memoryMiB: 4096, gpus: 0 }, reserved: { cores: 0, memoryMiB: 0, gpus: 0 } },
      ...{ diskFreeMiB: 1000, runningTasks: 0, lastSeen: 0 },
    },
  ]
  mesh = await connect({ open: fake.open })
})
afterEach(async () => {
  await mesh.close()
  fake.close()
})

const jobs = () => [...fake.jobs.values()]

describe('a group', () => {
  it('is one task, a gang, on a pool of its own that goes with its job; nothing is left of it', async () => {
    let seen: unknown
    fake.eventsOf = () => {
      const [job] = jobs()
      seen = { tasks: [...job!.tasks.values()].map(({ spec }) => spec.multiInstanceSettings), job: job!.spec }
      return []
    }
    expect(await mesh.group(2, (group, word: string) => `${word} ${group.rank}`, 'rank')).toEqual(['rank 0', 'rank 1'])
    const pool = [...fake.pools.values()].at(-1)!
    expect(pool).toMatchObject({
      ...{ targetDedicatedNodes: 2, enableInterNodeCommunication: true, taskSlotsPerNode: 1, poolLifetimeOption: 'job' },
    })
    expect(seen).toMatchObject({ tasks: [{ numberOfInstances: 2 }], job: { poolId: pool.id, retentionTimeMs: 86_400_000 } })
    expect(jobs()).toEqual([])
  })

  it('takes a function of a module, with the types of its arguments and of what it returns', async () => {
    const names: string[] = await mesh.group({ size: 2, retries: 1 }, work.nameOf, { prefix: 'member' }, [1, 2])
    expect(names).toEqual(['member 0 of 2: 3', 'member 1 of 2: 3'])
    // @ts-expect-error the argument is no number
    await mesh.group(1, work.nameOf, 7, [])
    // @ts-expect-error a map gives its function inputs, no group
    mesh.map(work.nameOf, [1])
  })

  it('gives and takes arguments and results of more than 64 KiB as blobs', async () => {
    const large = new Uint8Array(100_000).fill(1)
    const got = await mesh.group(2, (group, bytes: Uint8Array) => [bytes.length, Uint8Array.from(bytes, () => group.rank)], large)
    expect(got.map(([length, bytes]) => [length, (bytes as Uint8Array)[99_999]])).toEqual([
      [100_000, 0],
      [100_000, 1],
    ])
  })

  it('that fails rejects with what a member threw, in lines of the module, and its job stays', async () => {
    const error: unknown = await mesh.group(2, work.refuse).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(MemberError)
    const { cause, message } = error as MemberError
    expect(message).toMatch(/^The group failed: RangeError: not as rank 0 \(task group-.*\/group\)$/)
    expect((cause as Error).stack).toMatch(/group-work\.ts:\d+:\d+/)
    expect(jobs()).toMatchObject([{ state: 'completed' }])
  })

  it('that is aborted rejects with the reason of its signal, and its job is ended', async () => {
    const stop = new AbortController()
    fake.gateOf = () => {
      stop.abort(new Error('enough'))
      return new Promise(() => {})
    }
    await expect(mesh.group({ size: 2, signal: stop.signal }, () => 1)).rejects.toThrow('enough')
    expect(jobs()).toMatchObject([{ state: 'completed', reason: 'GroupEnded' }])
    await expect(mesh.group({ size: 2, signal: stop.signal }, () => 1)).rejects.toThrow('enough')
    expect(jobs()).toHaveLength(1)
  })

  it('on a pool that is named makes none', async () => {
    await mesh.pools.create({ id: 'gangs', vmSize: 'cores=1', targetDedicatedNodes: 2, enableInterNodeCommunication: true })
    let seen: unknown
    fake.eventsOf = () => {
      seen = [jobs()[0]!.spec.poolId, fake.pools.size]
      return []
    }
    const before = fake.pools.size
    await mesh.group({ size: 2, poolId: 'gangs' }, () => 1)
    expect(seen).toEqual(['gangs', before])
  })

  it.each<[unknown, string]>([
    [0, 'from 1 to 100000, not 0'],
    [1.5, 'not 1.5'],
    ['4', 'not 4'],
    [{}, 'not undefined'],
    [{ size: 2, poolId: 'none' }, 'There is no pool none'],
    [{ size: 2, poolId: 'plain' }, 'The pool plain has no inter-node communication'],
    [{ size: 2, poolId: 'wide' }, 'The pool wide has 2 task slots a node'],
    [{ size: 2, priority: 5000 }, 'priority'],
    [1000, 'A group of 1000 is more than the mesh can hold'],
  ])('of %j is refused, and nothing is added', async (size, message) => {
    await mesh.pools.create({ id: 'plain', vmSize: 'cores=1' })
    await mesh.pools.create({ id: 'wide', vmSize: 'cores=1', taskSlotsPerNode: 2, enableInterNodeCommunication: true })
    const error: unknown = await mesh.group(size as GroupOptions, () => 1).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(MeshError)
    expect((error as MeshError).message).toContain(message)
    expect(jobs()).toEqual([])
  })

  it('is refused with arguments that cannot be sent, and a function that captures something', async () => {
    const given = () => 2
    await expect(mesh.group(1, (_group, call) => call(), given)).rejects.toThrow(
      /arguments of the group cannot be sent: .*structuredClone takes/,
    )
    const captured = 3
    await expect(mesh.group(1, () => captured)).rejects.toThrow('"captured"')
    expect(jobs()).toEqual([])
  })
})

describe('the pool of a group', () => {
  type Machine = Parameters<typeof poolOfGroup>[2][number]
  const machine = (cores: number, more: Partial<Machine> = {}): Machine => ({
    connected: true,
    capacity: { cores, memoryMiB: cores * 1000, gpus: 0 },
    reserved: { cores: 0, memoryMiB: 0, gpus: 0 },
    class: 'dedicated',
    labels: {},
    features: ['threads'],
    ...more,
  })
  const sizeOf = (size: number, machines: Machine[], options: Partial<GroupOptions> = {}) => {
    const { vmSize, targetDedicatedNodes, targetLowPriorityNodes } = poolOfGroup('p', { size, ...options }, machines)
    return `${vmSize} ${targetDedicatedNodes}+${targetLowPriorityNodes}`
  }

  it('gives each member a core and its share of the memory', () => {
    expect(sizeOf(4, [machine(2), machine(3, { capacity: { cores: 3, memoryMiB: 1500, gpus: 0 } })])).toBe(
      'cores=1,memory=500MiB,gpus=0 4+0',
    )
  })

  it('has smaller nodes where there are fewer cores, down to a quarter of one', () => {
    expect(sizeOf(4, [machine(2)])).toBe('cores=0.5,memory=500MiB,gpus=0 4+0')
    expect(sizeOf(8, [machine(2)])).toBe('cores=0.25,memory=250MiB,gpus=0 8+0')
    expect(() => sizeOf(9, [machine(2)])).toThrow('room for 8 members at most')
    expect(() => sizeOf(1, [machine(2, { connected: false })])).toThrow('No machine that is connected can run one')
  })

  it('takes what other pools have left, rather than wait for more', () => {
    const reserved = { cores: 2, memoryMiB: 2000, gpus: 0 }
    expect(sizeOf(4, [machine(4, { reserved })])).toBe('cores=0.5,memory=500MiB,gpus=0 4+0')
    expect(sizeOf(4, [machine(4, { reserved: { ...reserved, cores: 4 } })])).toBe('cores=1,memory=1000MiB,gpus=0 4+0')
  })

  it('has what the options say of each member, also where no machine has that yet', () => {
    expect(sizeOf(2, [machine(2)], { cores: 8, memoryMiB: 10, gpus: 1 })).toBe('cores=8,memory=10MiB,gpus=1 2+0')
  })

  it('takes machines with the labels asked for that run functions', () => {
    const machines = [machine(8), machine(8, { labels: { rack: 'b' }, features: [] }), machine(1, { labels: { rack: 'b' } })]
    expect(sizeOf(2, machines, { labels: { rack: 'b' } })).toBe('cores=0.5,memory=500MiB,gpus=0 2+0')
  })

  it('takes machines that may leave at any time only where the others are not enough', () => {
    const machines = [machine(2), machine(8, { class: 'low-priority' })]
    expect(sizeOf(2, machines)).toBe('cores=1,memory=1000MiB,gpus=0 2+0')
    expect(sizeOf(4, machines)).toBe('cores=1,memory=1000MiB,gpus=0 2+2')
  })
})
