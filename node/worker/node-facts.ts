/** What the environment of a task says of its node. */
import type { JobBrief } from '../../protocols/leases.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import type { NodeFacts } from '../environment.ts'
import type { WorkerOptions } from './contract.ts'

export function nodeFacts(options: WorkerOptions, machine: MachineDescription, nodeId: string, job: JobBrief): NodeFacts {
  return {
    poolId: job.poolId,
    nodeId,
    isDedicated: machine.class === 'dedicated',
    rootDir: machine.nodeRootDir,
    accountName: options.account?.name ?? 'batchmesh',
    accountUrl: options.account?.url ?? '',
    user: options.taskUser ?? 'batch',
  }
}
