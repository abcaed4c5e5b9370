/** `mesh.machines`. */
import type { MachineView } from '../../protocols/model/machine.ts'
import type { NodeView } from '../../protocols/model/pool.ts'
import type { Mesh as Client } from '../mesh/client.ts'

type Line = Pick<Client['control'], 'call'>

/** One machine with the compute nodes that it holds and, a sentence each, what is to be said of its state. */
export type MachineDetails = MachineView & { nodes: NodeView[]; explanation: string[] }

/** The machines of the mesh: what each lends, and whether it is connected. */
export class Machines {
  readonly #control: Line

  /** @internal */
  constructor(control: Line) {
    this.#control = control
  }

  /** Every machine that the mesh knows, connected or not. */
  async list(): Promise<MachineView[]> {
    return (await this.#control.call('listMachines', {})).items
  }

  /**
   * One machine, by its name or peer id.
   * @throws {@link MeshError} `MachineNotFound`
   */
  get(machine: string): Promise<MachineDetails> {
    return this.#control.call('getMachine', { machine })
  }
}
