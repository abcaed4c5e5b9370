/** Groups in one thread: the same program runs as every member. */
import type { Group } from '../../../node/groups/group.ts'
import { openGroup } from '../../../node/groups/open.ts'
import { MemoryNetwork, type MemoryOptions } from '../../support/memory-link.ts'

export interface Lab extends Disposable {
  network: MemoryNetwork
  groups: Group[]
}

export function lab(size: number, options?: MemoryOptions): Lab {
  const network = new MemoryNetwork(size, options)
  const groups = network.links.map(openGroup)
  return { network, groups, [Symbol.dispose]: () => void Promise.all(groups.map((group) => group.close())) }
}

/** What the program gives on every member, by rank. */
export async function run<T>(size: number, program: (group: Group) => Promise<T>, options?: MemoryOptions): Promise<T[]> {
  using made = lab(size, options)
  return await Promise.all(made.groups.map(program))
}
