/** `mesh.pools`. */
import type { DeallocationOption, NodeView, PoolSpecInput, PoolView } from '../../protocols/model/pool.ts'
import type { Mesh as Client } from '../mesh/client.ts'

/** How a pool is to change. What is absent stays as it is. */
export interface PoolResize {
  targetDedicatedNodes?: number
  targetLowPriorityNodes?: number
  /** What happens to the tasks of nodes that are given back; default `requeue`. */
  nodeDeallocationOption?: DeallocationOption
  resizeTimeoutMs?: number
}

/** Pools of compute nodes, which are reservations on machines. The pool `default`, a node on each machine, is always there. */
export class Pools {
  readonly #control: Pick<Client['control'], 'call'>

  /** @internal */
  constructor(control: Pick<Client['control'], 'call'>) {
    this.#control = control
  }

  /**
   * Makes a pool; its nodes come as machines that fit offer themselves.
   * @throws {@link MeshError} `PoolExists`, `InvalidPropertyValue`
   */
  create(pool: PoolSpecInput): Promise<PoolView> {
    return this.#control.call('addPool', pool)
  }

  /** All pools, `default` among them. */
  async list(): Promise<PoolView[]> {
    return (await this.#control.call('listPools', {})).items
  }

  /** @throws {@link MeshError} `PoolNotFound` */
  get(poolId: string): Promise<PoolView> {
    return this.#control.call('getPool', { poolId })
  }

  /**
   * Changes how many nodes a pool has. Returns at once; the pool's `allocationState` is `steady` when it is done.
   * @throws {@link MeshError} `PoolNotFound`, `PoolBeingDeleted`, `OperationNotValidOnPool` for the pool `default`
   */
  resize(poolId: string, change: PoolResize): Promise<PoolView> {
    return this.#control.call('resizePool', { poolId, ...change })
  }

  /**
   * Gives all nodes of a pool back, and removes it.
   * @throws {@link MeshError} `PoolNotFound`, `OperationNotValidOnPool` for the pool `default`
   */
  async delete(poolId: string): Promise<void> {
    await this.#control.call('deletePool', { poolId })
  }

  /** The compute nodes of a pool. @throws {@link MeshError} `PoolNotFound` */
  async nodes(poolId: string): Promise<NodeView[]> {
    return (await this.#control.call('listNodes', { poolId })).items
  }

  /** Why a pool has not the nodes that it asks for, or that it has. @throws {@link MeshError} `PoolNotFound` */
  explain(poolId: string): Promise<Explanation> {
    return this.#control.call('explain', { poolId })
  }
}

/** Why something waits: a sentence, and what plays a part, a line each. */
export interface Explanation {
  summary: string
  details: string[]
}
