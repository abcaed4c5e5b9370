/** What the coordinator of the fake mesh says of it. */
import type { MachineView } from '../../protocols/model/machine.ts'
import type { NodeView, PoolSpec, PoolView } from '../../protocols/model/pool.ts'
import { capacityOfVmSize } from '../../protocols/model/vm-sizes.ts'
import { version } from '../../src/version.ts'

export const meshStatus = {
  meshId: 'mesh-1',
  coordinator: { peer: 'peer-of-the-coordinator', name: 'tower', version, startTime: 0, ownerEpoch: 1 },
  machines: { connected: 1, known: 2 },
  capacity: { cores: 4, memoryMiB: 8192, gpus: 0 },
  pools: 1,
  jobs: { active: 0, completed: 0 },
  tasks: { active: 0, running: 0, completed: 0, succeeded: 0, failed: 0 },
  heartbeatLagMs: 1,
}

export function poolView(spec: PoolSpec): PoolView {
  return {
    ...spec,
    state: 'active',
    allocationState: 'steady',
    nodeSize: capacityOfVmSize(spec.vmSize),
    currentDedicatedNodes: spec.targetDedicatedNodes,
    currentLowPriorityNodes: spec.targetLowPriorityNodes,
    resizeErrors: [],
    creationTime: 0,
    allocationStateTransitionTime: 0,
    pendingTasks: 0,
    runningTasks: 0,
  }
}

/** A connected machine that lends four cores and has Open MPI. */
export function machineView(name: string, more: Partial<MachineView> = {}): MachineView {
  return {
    name,
    peer: `12D3KooWFake${name}`,
    class: 'dedicated',
    capacity: { cores: 4, memoryMiB: 8192, gpus: 0 },
    reserved: { cores: 0, memoryMiB: 0, gpus: 0 },
    diskFreeMiB: 1000,
    labels: {},
    os: 'linux',
    arch: 'x64',
    version,
    isolation: 'bwrap',
    mpi: [{ flavor: 'openmpi', version: '4.1.4' }],
    addresses: [],
    nodeRootDir: '/data',
    roles: ['worker'],
    connected: true,
    runningTasks: 0,
    lastSeen: 0,
    isCoordinator: false,
    ...more,
  }
}

export function nodeView(poolId: string, machine: string, id = machine): NodeView {
  return {
    id,
    poolId,
    machine,
    machineName: machine,
    state: 'idle',
    isDedicated: true,
    size: { cores: 2, memoryMiB: 0, gpus: 0 },
    taskSlots: 1,
    runningTasksCount: 0,
    runningTaskSlotsCount: 0,
    allocationTime: 0,
  }
}
