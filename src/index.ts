/**
 * The library.
 *
 *     import { connect } from 'batchmesh'
 *
 *     await using mesh = await connect()                          // through the node that runs on this machine
 *     for await (const done of mesh.run({ command: 'sha256sum {input}', inputs: '*.iso' })) console.log(await done.stdout())
 *     for await (const square of mesh.map((n: number) => n * n, [1, 2, 3])) console.log(square)
 *
 * Nothing here sets signal handlers or writes to standard output or standard error.
 */
export type { JobEvents, MeshStatus, TaskEvent } from '../protocols/control.ts'
export { type ErrorCode, MeshError } from '../protocols/errors.ts'
export type { FileEntry } from '../protocols/files.ts'
export type { BlobStat, LocalStatus } from '../protocols/local.ts'
export type { EnvironmentSettings, JobSpec, JobSpecInput, JobState, JobView, TaskCounts } from '../protocols/model/job.ts'
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
export type { SubtaskState, SubtaskView } from '../protocols/model/subtask.ts'
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
export type { TaskArrayInput } from '../protocols/model/task-array.ts'
export type { CloneValue, ThreadError, ThreadTask } from '../protocols/model/thread-task.ts'
export type { Blobs, PutBlobOptions, ReadBlobOptions } from './library/blobs.ts'
export { type ConnectOptions, connect, type JoinOptions, join } from './library/connect.ts'
export type { GroupOptions } from './library/group/options.ts'
export type { Groups } from './library/groups.ts'
export type { Jobs, JobUpdate } from './library/jobs.ts'
export type { MachineDetails, Machines } from './library/machines.ts'
export {
  type Completed,
  type CompletedSettled,
  type Inputs,
  type MapOptions,
  type RemoteFunction,
  type RemoteModule,
  remoteModule,
  type Settled,
} from './library/map/options.ts'
export type { InviteOptions, Mesh } from './library/mesh.ts'
export type { TaskOptions } from './library/own-job.ts'
export type { Explanation, PoolResize, Pools } from './library/pools.ts'
export type { FinishedTask, Output } from './library/run/finished-task.ts'
export type { BlobInput, RunOptions } from './library/run/options.ts'
export { type FailedTask, MapError, MemberError, TaskError } from './library/task-error.ts'
export type { TaskFilter, Tasks } from './library/tasks.ts'
export { createTestMesh, type TestMesh, type TestMeshOptions } from './library/test-mesh.ts'
export type { PutBlob } from './mesh/blobs.ts'
export type { JoinGroupOptions } from './mesh/groups.ts'
export type { Log, LogLevel } from './mesh/log.ts'
export type { TreeFile } from './mesh/trees.ts'
export type { JobChange } from './mesh/watch.ts'
export {
  type Combine,
  type Gathered,
  type Group,
  GroupError,
  type GroupErrorCode,
  type Into,
  type Message,
  type MessageStatus,
  type Operation,
  type ReceiveOptions,
  type ReduceOptions,
  type Request,
  type RootOptions,
  type SendOptions,
  type SendReceiveOptions,
  type Source,
  type TypedArray,
  type WaitOptions,
} from './mesh.ts'
