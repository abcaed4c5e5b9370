/** What tasks may take of a machine, and what of that it can hold them to. */
import type { Cgroups } from './cgroups.ts'

export interface TaskLimits {
  /** Most memory of all tasks together. A single one's stands in its StartRequest. */
  memoryMiB: number
  /** Most processes and threads of one task. */
  processes: number
}

/**
 * Most processes and threads of one task, unless the owner says otherwise (`--pids-limit`): many times what builds, Java
 * programs and MPI ranks have, and an eighth of the process ids that a system has by default (32,768).
 */
export const defaultProcesses = 4096

/** Which limits hold here. */
export interface HeldLimits {
  memory: boolean
  processes: boolean
  /** What holds them, such as `control groups, version 2`. */
  by: string | undefined
  /** Why others do not. */
  why: string | undefined
}

/** `countsUsers`: each lane has a user of its own, whose processes the system counts. */
export function heldLimits(groups: Cgroups | string, countsUsers: boolean): HeldLimits {
  if (typeof groups === 'string')
    return { memory: false, processes: countsUsers, by: countsUsers ? 'the users of tasks' : undefined, why: groups }
  const { memory, processes } = groups.limits
  return { memory, processes: processes || countsUsers, by: `control groups, version ${groups.version}`, why: groups.why }
}
