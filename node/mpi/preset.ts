/**
 * What the environment of a gang's members tells the MPI that is installed: to start its daemons by our agent, on these
 * hosts, over this network. Every setting can be overridden on mpirun's command line, and by the task's environment settings.
 *
 * Names of settings: Open MPI 4 takes parameters from OMPI_MCA_<name>; in Open MPI 5 those of the launcher, PRRTE, moved to
 * PRTE_MCA_<name> (docs.open-mpi.org: the role of PRRTE); MPICH's Hydra has HYDRA_* (MPICH wiki: using the Hydra process
 * manager). What is meant for another implementation is not read. Pure.
 */
import type { Gang } from '../gangs/membership.ts'

/** The task's own word for how many ranks a node gets; else one for each of its cores. */
export const ranksPerNodeName = 'BATCHMESH_MPI_RANKS_PER_NODE'

/** An IPv4 interface of this machine: its address with the length of its network's prefix, such as 10.0.0.5/24. */
export interface Interface {
  name: string
  cidr: string
}

export interface PresetFacts {
  /** The agent (agent-script.ts), and the directory where it finds its node. */
  agent: string
  dir: string
  /** Lists of hosts, as Open MPI and as MPICH write them. */
  hostfile: string
  hydraHostfile: string
  taskDir: string
  interfaces: readonly Interface[]
  /** Cores of this machine. */
  machineCores: number
  /** The member has a /dev/shm of its own. */
  hasOwnShm: boolean
  /** Value of {@link ranksPerNodeName} in the task's settings. */
  ranksPerNode?: string | undefined
}

/** Open MPI refuses to leave more agents attached than this, its default, unless it may start so many at once. */
const atOnce = 128
/** Networks that only this machine has: where the way between members is not known, MPI must at least not take these. */
const inward = '127.0.0.0/8,docker0,virbr0,lxcbr0,podman0,cni0'

/** What Open MPI knows as this host without asking a name server. */
const localName = 'localhost'

/** Ranks that a node gets, at least one. */
export function slotsOf(cores: number, ranksPerNode?: string): number {
  const asked = /^[1-9]\d{0,5}$/.test(ranksPerNode ?? '') ? Number(ranksPerNode) : undefined
  return asked ?? Math.max(1, Math.floor(cores))
}

/**
 * Hosts by the ids of their nodes: unlike addresses they are unique where several nodes share a machine. The primary is where
 * mpirun runs.
 */
export function hostfileText({ members }: Gang, ranksPerNode?: string): string {
  return members.map(({ nodeId, cores }, index) => `${index === 0 ? localName : nodeId} slots=${slotsOf(cores, ranksPerNode)}\n`).join('')
}

/** MPICH's daemons connect to the first host by its name here, so that must be an address. */
export function hydraHostfileText({ members }: Gang, ranksPerNode?: string): string {
  return members
    .map(({ nodeId, address, cores }, index) => `${index === 0 && address !== '' ? address : nodeId}:${slotsOf(cores, ranksPerNode)}\n`)
    .join('')
}

export function mpiEnvironment(gang: Gang, facts: PresetFacts): Record<string, string> {
  const { members, index } = gang
  const env: Record<string, string> = {
    BATCHMESH_LAUNCH_DIR: facts.dir,
    // Ranks are never the machine's root. In one tier tasks have user id 0 of a namespace, where Open MPI would refuse.
    OMPI_ALLOW_RUN_AS_ROOT: '1',
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
    PRTE_ALLOW_RUN_AS_ROOT: '1',
    PRTE_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
  }
  // Files of shared memory are named after machine, user, and number on the node, which members on one machine have in common.
  if (!facts.hasOwnShm && index > 0 && members.some(({ peer }, other) => other !== index && peer === members[index]!.peer)) {
    env.OMPI_MCA_btl_vader_backing_directory = facts.taskDir
    env.OMPI_MCA_btl_sm_backing_directory = facts.taskDir
  }
  // What mpirun has in its own environment it hands on to all ranks: the rest is said once, where it runs.
  if (index === 0) Object.assign(env, openMpi4(gang, facts), prrte(gang, facts), hydra(gang, facts), transports(gang, facts))
  return env
}

function openMpi4({ members }: Gang, { agent, hostfile, interfaces }: PresetFacts): Record<string, string> {
  return {
    OMPI_MCA_plm_rsh_agent: agent,
    // Only the primary's node starts anything.
    OMPI_MCA_plm_rsh_no_tree_spawn: '1',
    OMPI_MCA_plm_rsh_num_concurrent: String(Math.max(atOnce, members.length)),
    OMPI_MCA_orte_default_hostfile: hostfile,
    // Else daemons leave the launch that holds them.
    OMPI_MCA_orte_leave_session_attached: '1',
    OMPI_MCA_orte_keep_fqdn_hostnames: '1',
    // Ids of nodes are no names that a name server knows: each would be asked for, and waited for.
    OMPI_MCA_if_base_do_not_resolve: '1',
    // Several nodes of one machine would all take its first cores.
    OMPI_MCA_hwloc_base_binding_policy: 'none',
    // A host that vanishes is else noticed after minutes.
    OMPI_MCA_oob_tcp_keepalive_time: '5',
    OMPI_MCA_oob_tcp_keepalive_intvl: '2',
    OMPI_MCA_oob_tcp_keepalive_probes: '3',
    ...networkOf('OMPI_MCA_oob_tcp', members, interfaces),
  }
}

/** Open MPI 5. */
function prrte({ members }: Gang, { agent, hostfile, interfaces }: PresetFacts): Record<string, string> {
  return {
    PRTE_MCA_plm_ssh_agent: agent,
    PRTE_MCA_plm_ssh_no_tree_spawn: '1',
    PRTE_MCA_plm_ssh_num_concurrent: String(Math.max(atOnce, members.length)),
    PRTE_MCA_prte_default_hostfile: hostfile,
    PRTE_MCA_prte_keep_fqdn_hostnames: '1',
    PRTE_MCA_prte_do_not_resolve: '1',
    PRTE_MCA_hwloc_default_binding_policy: 'none',
    ...networkOf('PRTE_MCA_prte', members, interfaces),
  }
}

function hydra({ members }: Gang, { agent, hydraHostfile }: PresetFacts): Record<string, string> {
  const address = members[0]!.address
  return {
    HYDRA_LAUNCHER: 'ssh',
    HYDRA_LAUNCHER_EXEC: agent,
    HYDRA_HOST_FILE: hydraHostfile,
    ...(address === '' ? {} : { HYDRA_USE_LOCALHOST: address }),
  }
}

/** How ranks send: over fast networks where all members have them, else by TCP on all alike. */
function transports({ members }: Gang, { interfaces, machineCores, ranksPerNode }: PresetFacts): Record<string, string> {
  const env = networkOf('OMPI_MCA_btl_tcp', members, interfaces)
  if (!members.every(({ hasFabric }) => hasFabric === true)) {
    env.OMPI_MCA_pml = 'ob1'
    // `vader` is `sm` from version 5 on, which knows the old name.
    env.OMPI_MCA_btl = 'self,vader,tcp'
    env.UCX_TLS = 'tcp,self'
  }
  const here = members.filter(({ peer }) => peer === members[0]!.peer)
  const ranksHere = here.reduce((sum, { cores }) => sum + slotsOf(cores, ranksPerNode), 0)
  // Open MPI does not see what other nodes run on the machine, and would wait by spinning on the cores that they need.
  if (ranksHere > machineCores || members.some(({ cores }) => slotsOf(cores, ranksPerNode) > cores)) env.OMPI_MCA_mpi_yield_when_idle = '1'
  return env
}

function networkOf(prefix: string, members: Gang['members'], interfaces: readonly Interface[]): Record<string, string> {
  const addresses = members.map(({ address }) => address)
  const network = commonNetwork(addresses, interfaces)
  return network === undefined ? { [`${prefix}_if_exclude`]: inward } : { [`${prefix}_if_include`]: network }
}

/**
 * The network of this machine, in the notation address/length, in which all the addresses lie, the first of which is its own;
 * undefined if there is none: members in several networks, or behind translated addresses.
 */
export function commonNetwork(addresses: readonly string[], interfaces: readonly Interface[]): string | undefined {
  const numbers = addresses.map(ipv4)
  if (numbers.some((number) => number === undefined)) return undefined
  for (const { cidr } of interfaces) {
    const [address = '', length = ''] = cidr.split('/')
    const own = ipv4(address)
    if (own === undefined || own !== numbers[0]) continue
    // A shift by 32 would be one by 0.
    const mask = length === '0' ? 0 : (-1 << (32 - Number(length))) >>> 0
    const network = (own & mask) >>> 0
    if (numbers.every((number) => (number! & mask) >>> 0 === network)) return `${dotted(network)}/${length}`
  }
  return undefined
}

function ipv4(address: string): number | undefined {
  const parts = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(address)?.slice(1).map(Number)
  if (parts === undefined || parts.some((part) => part > 255)) return undefined
  return parts.reduce((number, part) => number * 256 + part, 0)
}

function dotted(number: number): string {
  return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join('.')
}
