/** Groups of programs. */
import type { Mesh as Client } from '../mesh/client.ts'
import type { Group, JoinGroupOptions } from '../mesh/groups.ts'

/** Groups of programs that work together. For groups of tasks see the function `group` of the mesh. */
export class Groups {
  readonly #client: Client

  /** @internal */
  constructor(client: Client) {
    this.#client = client
  }

  /**
   * Forms a group with other programs of the mesh that join by the same name: resolves when `size` of them have come. Ranks
   * are in the order of arrival. Then the name is free again. What they send each other goes straight from program to
   * program, encrypted. Close the group at the end; until then it keeps the program alive.
   *
   *     const group = await mesh.groups.join('simulation', { size: 4 })   // in each of four programs
   *     const total = await group.allreduce(mine, 'sum')
   *     await group.close()
   *
   * @throws {@link MeshError} `OperationTimedOut` when too few came in time, which says how many; `InvalidPropertyValue` for
   *   another size than the others gave, or one that will not do; `NoCoordinator`; with an aborted signal its reason
   */
  async join(name: string, options: JoinGroupOptions): Promise<Group> {
    const { joinGroup } = await import('../mesh/groups.ts')
    return await joinGroup(this.#client, name, options)
  }
}
