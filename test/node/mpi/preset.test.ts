import { describe, expect, it } from 'vitest'
import type { Gang } from '../../../node/gangs/membership.ts'
import { commonNetwork, hostfileText, hydraHostfileText, mpiEnvironment, type PresetFacts, slotsOf } from '../../../node/mpi/preset.ts'

interface MemberFacts {
  peer?: string
  address?: string
  cores?: number
  hasFabric?: boolean
}

function gang(members: readonly MemberFacts[], index = 0): Gang {
  return {
    index,
    members: members.map(({ peer, address = `10.0.0.${members.length}`, cores = 2, hasFabric }, number) => ({
      peer: peer ?? `machine-${number}`,
      nodeId: `tvm-${number}`,
      name: `m${number}`,
      address,
      cores,
      hasFabric,
    })),
  }
}

const hosts = (count: number, more: MemberFacts = {}) => Array.from({ length: count }, (_, n) => ({ address: `10.0.0.${n + 1}`, ...more }))
const eth0 = { name: 'eth0', cidr: '10.0.0.1/24' }
const lo = { name: 'lo', cidr: '127.0.0.1/8' }
const facts: PresetFacts = {
  agent: '/agent',
  dir: '/dir',
  hostfile: '/dir/hosts',
  hydraHostfile: '/dir/hydra-hosts',
  taskDir: '/task',
  interfaces: [lo, eth0],
  machineCores: 8,
  hasOwnShm: true,
}

describe('slots of a node', () => {
  it.each([
    [4, undefined, 4],
    [2.5, undefined, 2],
    [0.25, undefined, 1],
    [2, '6', 6],
    [2, '0', 2],
    [2, 'many', 2],
  ])('with %s cores and %s ranks wished are %s', (cores, wished, slots) => {
    expect(slotsOf(cores, wished)).toBe(slots)
  })
})

describe('the list of hosts', () => {
  it('names nodes by their ids, for machines may share an address, and the primary as the host where mpirun is', () => {
    const four = gang([{ address: '10.0.0.1' }, { address: '10.0.0.1' }, { address: '10.0.0.2', cores: 0.5 }])
    expect(hostfileText(four)).toBe('localhost slots=2\ntvm-1 slots=2\ntvm-2 slots=1\n')
    expect(hostfileText(four, '3')).toBe('localhost slots=3\ntvm-1 slots=3\ntvm-2 slots=3\n')
  })
  it('of MPICH begins with an address, which its daemons connect to', () => {
    expect(hydraHostfileText(gang(hosts(2)))).toBe('10.0.0.1:2\ntvm-1:2\n')
    expect(hydraHostfileText(gang([{ address: '' }, {}]))).toBe('tvm-0:2\ntvm-1:2\n')
  })
})

describe('the network of the members', () => {
  it.each([
    [['10.0.0.1', '10.0.0.9'], [lo, eth0], '10.0.0.0/24'],
    [['127.0.0.1', '127.0.0.1'], [lo, eth0], '127.0.0.0/8'],
    [['172.16.200.3', '172.31.0.1'], [{ name: 'e', cidr: '172.16.200.3/12' }], '172.16.0.0/12'],
    [['200.1.2.3', '9.9.9.9'], [{ name: 'e', cidr: '200.1.2.3/0' }], '0.0.0.0/0'],
    [['10.0.0.1', '10.0.0.1'], [{ name: 'e', cidr: '10.0.0.1/32' }], '10.0.0.1/32'],
  ])('of %j is that of this machine in which all lie', (addresses, interfaces, network) => {
    expect(commonNetwork(addresses, interfaces)).toBe(network)
  })
  it.each([
    ['another member is elsewhere', ['10.0.0.1', '10.1.0.1']],
    ['no interface has the own address', ['10.0.0.2', '10.0.0.3']],
    ['a member has said no address', ['10.0.0.1', '']],
    ['a member has an address of version 6', ['10.0.0.1', 'fd00::1']],
    ['an address is none', ['10.0.0.1', '10.0.0.999']],
  ])('is unknown where %s', (_, addresses) => {
    expect(commonNetwork(addresses, [lo, eth0])).toBeUndefined()
  })
})

describe('the environment for MPI', () => {
  it('of the primary has mpirun start its daemons by the agent, on the hosts of the gang, over their network', () => {
    expect(mpiEnvironment(gang(hosts(3)), facts)).toMatchObject({
      BATCHMESH_LAUNCH_DIR: '/dir',
      OMPI_MCA_plm_rsh_agent: '/agent',
      OMPI_MCA_orte_default_hostfile: '/dir/hosts',
      OMPI_MCA_orte_leave_session_attached: '1',
      OMPI_MCA_oob_tcp_if_include: '10.0.0.0/24',
      OMPI_MCA_btl_tcp_if_include: '10.0.0.0/24',
      PRTE_MCA_plm_ssh_agent: '/agent',
      PRTE_MCA_prte_default_hostfile: '/dir/hosts',
      PRTE_MCA_prte_if_include: '10.0.0.0/24',
      HYDRA_LAUNCHER_EXEC: '/agent',
      HYDRA_HOST_FILE: '/dir/hydra-hosts',
      HYDRA_USE_LOCALHOST: '10.0.0.1',
    })
  })
  it('of the others says nothing that would follow ranks to other hosts', () => {
    expect(Object.keys(mpiEnvironment(gang(hosts(3), 2), facts)).filter((name) => /MCA|HYDRA|UCX/.test(name))).toEqual([])
  })
  it('leaves out only networks within a machine where the members share none', () => {
    const env = mpiEnvironment(gang([{ address: '10.0.0.1' }, { address: '10.9.0.1' }]), facts)
    expect(env.OMPI_MCA_btl_tcp_if_include).toBeUndefined()
    expect(env.OMPI_MCA_btl_tcp_if_exclude).toMatch(/^127\.0\.0\.0\/8,docker0,/)
    expect(env.OMPI_MCA_oob_tcp_if_exclude).toBe(env.OMPI_MCA_btl_tcp_if_exclude)
  })
  it('keeps to TCP unless all members have a fast network', () => {
    expect(mpiEnvironment(gang(hosts(2)), facts)).toMatchObject({
      OMPI_MCA_pml: 'ob1',
      OMPI_MCA_btl: 'self,vader,tcp',
      UCX_TLS: 'tcp,self',
    })
    const mixed = mpiEnvironment(gang([{ hasFabric: true }, {}]), facts)
    expect(mixed.OMPI_MCA_pml).toBe('ob1')
    const fast = mpiEnvironment(gang(hosts(2, { hasFabric: true })), facts)
    for (const name of ['OMPI_MCA_pml', 'OMPI_MCA_btl', 'OMPI_MCA_mtl', 'UCX_TLS']) expect(fast[name], name).toBeUndefined()
  })
  it('lets Open MPI start as many agents at once as there are members, all of which stay', () => {
    expect(mpiEnvironment(gang(hosts(4)), facts).OMPI_MCA_plm_rsh_num_concurrent).toBe('128')
    const many = mpiEnvironment(gang(Array.from({ length: 500 }, () => ({}))), facts)
    expect(many.OMPI_MCA_plm_rsh_num_concurrent).toBe('500')
    expect(many.PRTE_MCA_plm_ssh_num_concurrent).toBe('500')
  })
  it('has ranks yield where they are more than the cores for them', () => {
    const yields = (members: readonly MemberFacts[], more: Partial<PresetFacts> = {}) =>
      mpiEnvironment(gang(members), { ...facts, ...more }).OMPI_MCA_mpi_yield_when_idle
    expect(yields(hosts(2))).toBeUndefined()
    expect(yields(hosts(2), { ranksPerNode: '3' })).toBe('1')
    expect(yields(hosts(5, { peer: 'one' }))).toBe('1')
    expect(yields(hosts(4, { peer: 'one' }))).toBeUndefined()
  })
  it('keeps files of shared memory of members on one machine apart where they share /dev/shm', () => {
    const shared = { ...facts, hasOwnShm: false }
    const backing = (members: readonly MemberFacts[], index: number, how = shared) =>
      mpiEnvironment(gang(members, index), how).OMPI_MCA_btl_vader_backing_directory
    const one = hosts(2, { peer: 'one' })
    expect(backing(one, 1)).toBe('/task')
    // mpirun hands its own on to all: the primary's must stay the default.
    expect(backing(one, 0)).toBeUndefined()
    expect(backing(one, 1, facts)).toBeUndefined()
    expect(backing(hosts(2), 1)).toBeUndefined()
  })
})
