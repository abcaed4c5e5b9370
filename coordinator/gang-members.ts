/** What the members of a gang are told of each other. Pure. */
import type { Grant } from '../protocols/leases.ts'
import type { InstalledMpi, MpiFlavor } from '../protocols/model/machine.ts'
import type { LeaseMember, Machine } from './state.ts'

export type Gang = NonNullable<Grant['gang']>

/** Multiaddrs of a machine that the others learn: as many as leases.ts allows. */
const maxAddresses = 8
/** Where machines have several that agree, the one that the launch of programs knows best. */
const preferred: readonly MpiFlavor[] = ['openmpi', 'mpich']

export function gangMembers(members: readonly LeaseMember[]): Gang['members'] {
  return members.map(({ machine, node }) => {
    const { name, addresses, fabrics = [] } = machine.description
    return {
      peer: machine.peer,
      nodeId: node.row.nodeId,
      name,
      address: ipAddressOf(addresses),
      addresses: addresses.slice(0, maxAddresses),
      cores: node.size.cores,
      hasFabric: fabrics.length > 0 ? true : undefined,
    }
  })
}

/**
 * The IP address in a machine's multiaddrs where programs of other machines reach it: the first that leads beyond the
 * machine, IPv4 before IPv6, for lists of hosts are separated by what IPv6 is full of. A loopback address where there is no other.
 */
export function ipAddressOf(multiaddrs: readonly string[]): string {
  const found = multiaddrs.flatMap((text) => {
    const [, kind, address] = text.split('/')
    return (kind === 'ip4' || kind === 'ip6') && address !== undefined ? [{ kind, address: address.toLowerCase() }] : []
  })
  const outside = found.filter(({ address }) => !isLoopback(address) && !isUseless(address))
  const best = outside.find(({ kind }) => kind === 'ip4') ?? outside[0] ?? found.find(({ address }) => isLoopback(address))
  return best?.address ?? ''
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

/** Any address, or one that means nothing without the name of an interface. */
function isUseless(address: string): boolean {
  return address === '0.0.0.0' || address === '::' || /^fe[89ab]/.test(address)
}

/** The MPI, of a flavor or of any, that all machines have in the same version. */
export function commonMpi(machines: Iterable<Machine>, flavor?: MpiFlavor): InstalledMpi | undefined {
  const [first, ...others] = new Set(machines)
  for (const wanted of flavor === undefined ? preferred : [flavor]) {
    const version = first === undefined ? undefined : mpiVersion(first, wanted)
    if (version !== undefined && others.every((machine) => mpiVersion(machine, wanted) === version)) return { flavor: wanted, version }
  }
  return undefined
}

export function mpiVersion(machine: Machine, flavor: MpiFlavor): string | undefined {
  return machine.description.mpi?.find((mpi) => mpi.flavor === flavor)?.version
}
