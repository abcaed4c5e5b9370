/** The one door to the mesh for everything in src/: the command line, the gateway, the library. */
import { type ConnectOptions, Mesh } from './mesh/client.ts'
import type { RunningNode, UpOptions } from './mesh/up-options.ts'

export type { TypedArray } from '../node/groups/datatypes.ts'
export type {
  Gathered,
  Group,
  Into,
  Message,
  MessageStatus,
  ReceiveOptions,
  ReduceOptions,
  RootOptions,
  SendOptions,
  SendReceiveOptions,
  Source,
} from '../node/groups/group.ts'
export { GroupError, type GroupErrorCode } from '../node/groups/group-error.ts'
export type { Combine, Operation } from '../node/groups/operations.ts'
export type { Request, WaitOptions } from '../node/groups/wait.ts'

/**
 * A connection to the mesh through this machine's node. Rejects with Unreachable when no node runs here. Close it at
 * the end: an open connection keeps the program alive.
 */
export async function connect(options: ConnectOptions = {}): Promise<Mesh> {
  const mesh = new Mesh(options)
  await mesh.local.session()
  return mesh
}

/** Starts a node in this process. Only this loads the node and the coordinator: everything else stays light. */
export async function startNode(options: UpOptions): Promise<RunningNode> {
  const { startNode: start } = await import('./mesh/up.ts')
  return start(options)
}
