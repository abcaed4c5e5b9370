/**
 * Which options can be set once for all, in a configuration file or a variable. Only their names stand here: what values
 * they take is said where the command defines the option. An option that names one thing (a job, a file) or asks for
 * something once (--detach) is none of them, nor is one that means different things to different commands.
 */

/** By command; the empty name is for the options that every command has. */
export const settable: Readonly<Record<string, readonly string[]>> = {
  '': ['data', 'output'],
  up: [
    'port',
    'listen',
    'announce',
    'bootstrap',
    'mdns',
    'lend-cpus',
    'lend-memory',
    'blob-quota',
    'disk-reserve',
    'pids-limit',
    'label',
    'class',
    'name',
    'log-level',
  ],
  run: ['pool-id', 'retries', 'timeout', 'cpus', 'memory', 'gpus', 'slots', 'env', 'retention', 'max-fails', 'quiet'],
  'mpi run': ['pool-id', 'cpus', 'mpi', 'env', 'retries', 'timeout', 'retention', 'quiet'],
  'job create': ['pool-id', 'priority', 'job-max-task-retry-count', 'job-max-wall-clock-time', 'max-parallel-tasks', 'retention-time'],
  'task create': ['max-task-retry-count', 'max-wall-clock-time', 'cpus', 'memory', 'gpus'],
  'pool create': ['vm-size', 'task-slots-per-node', 'node-fill-type', 'resize-timeout'],
  invite: ['role', 'expires', 'uses'],
}

/** All names, which may stand at the top of a file and hold for every command that has such an option. */
export const allNames: readonly string[] = [...new Set(Object.values(settable).flat())]

/** A secret may come in a variable or its own file, not in a configuration that is read again and again. */
export const secretNames: readonly string[] = ['join']

/** Options whose values may hold secrets: their names alone are shown. */
export const confidentialNames: readonly string[] = ['env']

export const variableOf = (name: string): string => `BATCHMESH_${name.replaceAll('-', '_').toUpperCase()}`
