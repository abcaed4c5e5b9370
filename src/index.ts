/**
 * The library: `import { connect } from 'batchmesh'`.
 *
 *     const mesh = await connect()                       // through the node that runs on this machine
 *     await mesh.control.call('addJob', { id: 'j', poolId: 'default' })
 *     await mesh.control.call('addTasks', { jobId: 'j', tasks: [{ id: 't', commandLine: 'true' }] })
 *     for await (const { counts } of mesh.watchJob('j', new AbortController().signal)) if (counts.completed === 1) break
 *     await mesh.close()
 *
 * The calls are those of protocols/control.ts (the mesh) and protocols/local.ts (the node of this machine).
 */
export type { JobEvents, MeshStatus, TaskEvent } from '../protocols/control.ts'
export { type ErrorCode, MeshError } from '../protocols/errors.ts'
export type { LocalStatus } from '../protocols/local.ts'
export type { JobSpec, JobSpecInput, JobState, JobView, TaskCounts } from '../protocols/model/job.ts'
export type { IsolationTier, MachineClass, MachineDescription, MachineView } from '../protocols/model/machine.ts'
export type {
  AllocationState,
  DeallocationOption,
  NodeState,
  NodeView,
  PoolSpec,
  PoolSpecInput,
  PoolView,
} from '../protocols/model/pool.ts'
export type { Capacity, Demand, Labels } from '../protocols/model/resources.ts'
export type {
  AttemptRecord,
  FailureInfo,
  Outcome,
  OutputEntry,
  OutputFile,
  ResourceFile,
  TaskSpec,
  TaskSpecInput,
  TaskState,
  TaskView,
} from '../protocols/model/task.ts'
export type { ConnectOptions, Mesh } from './mesh/client.ts'
export type { RunningNode, UpOptions } from './mesh/up-options.ts'
export { connect, startNode } from './mesh.ts'
