/** What `mesh.group` takes. */
import type { TaskOptions } from '../own-job.ts'

/** How a group of functions is run. `cores`, `memoryMiB` and `gpus` are those of each member. */
export interface GroupOptions extends Omit<TaskOptions, 'slots'> {
  /** How many members. Each runs on a compute node of its own; one machine may have several. */
  size: number
  /**
   * A pool with inter-node communication and one task slot a node. By default one is made for the group and deleted with its
   * end; its nodes have a core each, or less where the machines have not so many, and a core's share of the memory, and are
   * on as few machines as can be.
   */
  poolId?: string
  /** Most that the heap of a member may grow to; default its node's memory. */
  maxHeapMiB?: number
  /**
   * How long the ended job stays to be looked at, in milliseconds. By default one that succeeded is deleted at once, because
   * its results have been given out, and one that failed stays for a day.
   */
  retentionMs?: number
}
