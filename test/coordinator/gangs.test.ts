import { beforeEach, describe, expect, it } from 'vitest'
import { ipAddressOf } from '../../coordinator/gang-members.ts'
import { Scene, type TaskInput } from '../support/scene.ts'

let scene: Scene

const gang = (id: string, size: number): TaskInput => ({
  id,
  multiInstanceSettings: { numberOfInstances: size, coordinationCommandLine: 'begin' },
})

/** Machines of one core, each with the one node of pool `p`. */
function mesh(...names: string[]): void {
  for (const name of names) scene.hello(name, { cores: 1 })
  scene.addPool({ id: 'p', targetDedicatedNodes: names.length, enableInterNodeCommunication: true })
  scene.grantAll()
}

const nodeOf = (name: string) =>
  [...scene.state.pools.get('p')!.nodes.values()].find((node) => node.machine.description.name === name)!.row.nodeId
const heldFor = () =>
  [...scene.state.pools.get('p')!.nodes.values()].flatMap((node) =>
    node.heldFor === undefined ? [] : [`${node.machine.description.name}:${node.heldFor.id}`],
  )

beforeEach(() => {
  scene = new Scene()
})

describe('M1: gangs', () => {
  it('M1: start on all their nodes in one step', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    expect(scene.addTasks('j', gang('g', 2)).slice(-3)).toEqual([
      'row j/g running epoch=1 on=a b',
      'tell a: j/g#1 of 2',
      'tell b: j/g#1+1 of 2',
    ])
  })

  it('M1: wait while one node is missing', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.gone('b')
    expect(scene.addTasks('j', gang('g', 2)).filter((line) => line.startsWith('tell'))).toEqual([])
    expect(scene.hello('b').filter((line) => line.startsWith('tell'))).toHaveLength(2)
  })

  it('L7: that coordinate outlive a connection that breaks, if the member’s machine still has it', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    scene.started('b', 'j/g#1+1')
    expect(scene.gone('b').filter((line) => line.startsWith('stop'))).toEqual([])
    expect(scene.status('j', 'g')).toMatchObject({ state: 'running' })
  })

  it('M1: with one member lost the whole attempt ends everywhere', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    scene.started('a', 'j/g#1')
    expect(scene.gone('b', true)).toContain('stop a: j/g#1 (a member of the group was lost)')
    expect(scene.status('j', 'g')).toMatchObject({ state: 'active', lastEnd: 'revoked', losses: 1, retryCount: 0 })
    expect(scene.report('a', 'j/g#1', 0)).toEqual(['verdict refused'])
  })

  it.each([
    ['an inventory that omits it', () => scene.hello('b')],
    ['a drain that returns it', () => scene.drain('b', ['j/g#1+1'])],
  ])('M1: %s ends a gang for all members', (_, event) => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    expect(event()).toContain('stop a: j/g#1 (a member of the group was lost)')
  })

  it('M1: a member that comes back after its gang has ended is told to stop', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    scene.started('a', 'j/g#1')
    scene.gone('b')
    scene.report('a', 'j/g#1', 0)
    const welcome = scene.hello('b', { inventory: [{ attempt: 'j/g#1+1' }] })
    expect(welcome.find((line) => line.startsWith('welcome'))).toContain('keep []')
  })

  it('M1: a member whose part has ended well may come back without it, also after a restart', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    scene.started('a', 'j/g#1')
    expect(scene.report('b', 'j/g#1+1', 0)).toEqual(['row members of j/g#1: ended +1', 'verdict accepted'])
    expect(scene.hello('b').filter((line) => line.startsWith('stop'))).toEqual([])
    scene.restart()
    scene.hello('a', { inventory: [{ attempt: 'j/g#1' }] })
    expect(scene.hello('b').filter((line) => line.startsWith('stop'))).toEqual([])
    // Another run of its process is another matter: what the primary talks to is gone.
    expect(scene.hello('b', { incarnation: 2 })).toContain('stop a: j/g#1 (a member of the group was lost)')
  })

  it('M1: only the first member completes the task, a failure of any ends it', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    expect(scene.report('b', 'j/g#1+1', 0).at(-1)).toBe('verdict accepted')
    expect(scene.report('b', 'j/g#1+1', 2).at(-1)).toBe('verdict accepted')
    expect(scene.status('j', 'g')).toMatchObject({ state: 'completed', result: 'failure' })
  })

  it('M1: a gang of 500 starts in a pool of 500 in one step, and ends everywhere when one member is lost', () => {
    const names = Array.from({ length: 500 }, (_, i) => `m${i}`)
    mesh(...names)
    scene.addJob({ id: 'small', poolId: 'p' })
    scene.addTasks('small', 's')
    scene.claim('m7', { nodes: [nodeOf('m7')] })
    scene.started('m7', 'small/s#1')
    scene.addJob({ id: 'j', poolId: 'p' })
    const told = (lines: string[]) => lines.filter((line) => line.startsWith('tell')).length
    expect(told(scene.addTasks('j', gang('g', 500)))).toBe(0)
    scene.tick(11)
    expect(heldFor()).toHaveLength(500)
    expect(told(scene.report('m7', 'small/s#1', 0))).toBe(500)
    scene.started('m0', 'j/g#1')
    expect(scene.gone('m499', true).filter((line) => line.startsWith('stop'))).toHaveLength(499)
    expect(scene.status('j', 'g')).toMatchObject({ state: 'active', losses: 1, retryCount: 0 })
    expect(told(scene.hello('m499', { incarnation: 2 }))).toBe(500)
    expect(scene.report('m0', 'j/g#2', 0).filter((line) => line.startsWith('stop'))).toHaveLength(499)
    expect(scene.status('j', 'g')).toMatchObject({ state: 'completed', result: 'success' })
  })

  it('M1: a gang that ran before is granted once, though its pool has room for it twice', () => {
    mesh('a', 'b', 'c', 'd')
    scene.addJob({ id: 'j', poolId: 'p', constraints: { maxTaskRetryCount: 3 } })
    scene.addTasks('j', gang('g', 2))
    for (let epoch = 1; epoch <= 3; epoch += 1) {
      const out = scene.report('a', `j/g#${epoch}`, 1)
      expect(out.filter((line) => line.startsWith('tell'))).toEqual([`tell a: j/g#${epoch + 1} of 2`, `tell b: j/g#${epoch + 1}+1 of 2`])
    }
  })

  it('M1: an aged gang holds nodes, small tasks go on elsewhere, and unstarted ones are taken back', () => {
    mesh('a', 'b', 'c')
    scene.addJob({ id: 'small', poolId: 'p' })
    scene.addTasks('small', 's1', 's2', 's3')
    for (const name of ['a', 'b', 'c']) scene.claim(name, { nodes: [nodeOf(name)] })
    scene.started('b', 'small/s2#1')
    scene.started('c', 'small/s3#1')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    expect(scene.tick(9)).not.toContain('retract a: small/s1#1')
    expect(scene.tick(2)).toContain('retract a: small/s1#1')
    expect(heldFor()).toEqual(['a:g', 'b:g'])
    scene.report('c', 'small/s3#1', 0)
    scene.addTasks('small', 's4')
    expect(scene.claim('c', { nodes: [nodeOf('c')] }).some((line) => line.startsWith('tell') || line.includes('grant c: small/s4'))).toBe(
      true,
    )
  })

  it('M1: a claim on a held node is answered with nothing but the word that it is held', () => {
    mesh('a', 'b', 'c')
    scene.addJob({ id: 'small', poolId: 'p' })
    scene.addTasks('small', 's1', 's2')
    scene.claim('b', { nodes: [nodeOf('b')] })
    scene.claim('c', { nodes: [nodeOf('c')] })
    scene.started('b', 'small/s1#1')
    scene.started('c', 'small/s2#1')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 3))
    scene.tick(11)
    scene.addTasks('small', 's3')
    expect(scene.claim('a', { nodes: [nodeOf('a')], waitMs: 0 })).toEqual([`grant a: nothing, held ${nodeOf('a')}`])
  })

  it('M1: two gangs that each lost a node do not wait for each other', () => {
    mesh('a', 'b', 'c', 'd', 'e', 'f')
    scene.addJob({ id: 'small', poolId: 'p' })
    scene.addTasks('small', 's1', 's2', 's3', 's4', 's5', 's6')
    for (const name of 'abcdef'.split('')) scene.claim(name, { nodes: [nodeOf(name)] })
    for (const [index, name] of 'abcdef'.split('').entries()) scene.started(name, `small/s${index + 1}#1`)
    scene.addJob({ id: 'low', poolId: 'p' })
    scene.addTasks('low', gang('g1', 3))
    scene.tick(11)
    scene.addJob({ id: 'high', poolId: 'p', priority: 9 })
    scene.addTasks('high', gang('g2', 3))
    scene.tick(11)
    scene.gone('a', true)
    scene.gone('f', true)
    for (const [index, name] of 'bcde'.split('').entries()) scene.report(name, `small/s${index + 2}#1`, 0)
    expect(scene.status('high', 'g2')).toMatchObject({ state: 'running' })
  })

  it('M1: an ended job gives back the nodes that its gang held', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'small', poolId: 'p' })
    scene.addTasks('small', 's1')
    scene.claim('a', { nodes: [nodeOf('a')] })
    scene.started('a', 'small/s1#1')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    scene.tick(11)
    expect(heldFor()).toHaveLength(2)
    scene.ask({ kind: 'terminateJob', jobId: 'j' })
    expect(heldFor()).toEqual([])
  })

  it('M1: nothing is put behind a gang by a claim that stood before it', () => {
    mesh('a', 'b')
    scene.claim('a', { nodes: [nodeOf('a')] })
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    scene.addJob({ id: 'small', poolId: 'p' })
    expect(scene.addTasks('small', 's').filter((line) => line.startsWith('grant'))).toEqual([])
  })

  it('a job within its parallel tasks starts one gang at a time', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p', maxParallelTasks: 1 })
    expect(scene.addTasks('j', gang('g1', 1), gang('g2', 1)).filter((line) => line.startsWith('tell'))).toEqual(['tell a: j/g1#1 of 1'])
  })

  it('a pool without inter-node communication starts none', () => {
    scene.hello('a')
    scene.addPool({ id: 'p', targetDedicatedNodes: 1 })
    scene.grantAll()
    scene.addJob({ id: 'j', poolId: 'p' })
    expect(scene.addTasks('j', gang('g', 1)).filter((line) => line.startsWith('tell'))).toEqual([])
  })

  it('a restart finds a gang on all its nodes, and ends it when one member does not have it', () => {
    mesh('a', 'b')
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', gang('g', 2))
    scene.started('a', 'j/g#1')
    scene.restart()
    expect(scene.hello('a', { inventory: [{ attempt: 'j/g#1' }] }).find((line) => line.startsWith('welcome'))).toContain('keep [j/g#1]')
    expect(scene.hello('b')).toContain('stop a: j/g#1 (a member of the group was lost)')
  })
})

describe('what the members of a gang are told of each other', () => {
  const openmpi = (version: string) => ({ flavor: 'openmpi' as const, version })
  const mpich = { flavor: 'mpich' as const, version: '4.0.2' }

  function told(mpi?: 'openmpi' | 'mpich') {
    scene.addPool({ id: 'p', targetDedicatedNodes: 2, enableInterNodeCommunication: true })
    scene.grantAll()
    scene.addJob({ id: 'j', poolId: 'p' })
    scene.addTasks('j', { id: 'g', multiInstanceSettings: { numberOfInstances: 2, coordinationCommandLine: 'begin', mpi } })
    return scene.effects.flatMap((effect) => (effect.kind === 'grants' ? effect.grants.flatMap(({ gang }) => gang ?? []) : []))
  }

  it('every member learns the IP address, at most eight multiaddrs and the fast networks of each machine', () => {
    const many = Array.from({ length: 9 }, (_, i) => `/ip4/10.0.0.${i}/tcp/4001`)
    scene.hello('a', { cores: 1, addresses: ['/ip4/127.0.0.1/tcp/4001', ...many], fabrics: ['mlx5_0'] })
    scene.hello('b', { cores: 1, addresses: [] })
    const gangs = told()
    expect(gangs.map(({ index }) => index)).toEqual([0, 1])
    for (const { members } of gangs)
      expect(members).toMatchObject([
        { name: 'a', address: '10.0.0.0', addresses: ['/ip4/127.0.0.1/tcp/4001', ...many.slice(0, 7)], cores: 1, hasFabric: true },
        { name: 'b', address: '', hasFabric: undefined },
      ])
    // Only the primary dials the others.
    expect(gangs.map(({ members }) => members[1]!.addresses)).toEqual([[], undefined])
  })

  it.each([
    [['/ip4/127.0.0.1/tcp/1', '/ip4/192.168.1.5/tcp/1'], '192.168.1.5'],
    [['/ip6/::1/tcp/1', '/ip6/fe80::1/tcp/1', '/ip6/2001:DB8::5/tcp/1', '/ip4/10.1.2.3/tcp/1'], '10.1.2.3'],
    [['/ip6/fe80::1/tcp/1', '/ip6/2001:DB8::5/tcp/1', '/ip4/127.0.0.1/tcp/1'], '2001:db8::5'],
    [['/ip4/0.0.0.0/tcp/1', '/ip6/::/tcp/1', '/ip6/::1/tcp/1'], '::1'],
    [['/dns4/host.example/tcp/1'], ''],
  ])('of %j the address is %j', (multiaddrs, address) => {
    expect(ipAddressOf(multiaddrs)).toBe(address)
  })

  it.each([
    ['the same in one version', [openmpi('4.1.4')], [openmpi('4.1.4')], undefined, openmpi('4.1.4')],
    ['versions that differ', [openmpi('4.1.4')], [openmpi('4.1.6')], undefined, undefined],
    ['one without any', [openmpi('4.1.4')], undefined, undefined, undefined],
    ['both, where only one agrees', [openmpi('4.1.4'), mpich], [openmpi('4.1.6'), mpich], undefined, mpich],
    ['both, and none asked for', [mpich, openmpi('4.1.4')], [mpich, openmpi('4.1.4')], undefined, openmpi('4.1.4')],
    ['both, and one asked for', [mpich, openmpi('4.1.4')], [mpich, openmpi('4.1.4')], 'mpich' as const, mpich],
  ])('the MPI of machines that have %s', (_, a, b, wanted, common) => {
    scene.hello('a', { cores: 1, mpi: a })
    scene.hello('b', { cores: 1, mpi: b })
    expect(told(wanted).map(({ mpi }) => mpi)).toEqual([common, common])
  })
})
