/** The options of sbatch: those that mean something here, and those that are passed over. Pure. */

export interface SlurmOption {
  /** Without the dashes. */
  name: string
  short?: string
  /** What it holds; absent for a flag. */
  value?: string
  about: string
  /** Its name on the command line, where that is another one. */
  here?: string
}

/** In the order of the help. */
export const slurmOptions: readonly SlurmOption[] = [
  { name: 'job-name', short: 'J', value: 'name', about: 'name to show, default the script’s' },
  { name: 'nodes', short: 'N', value: 'number', about: 'nodes, got all at once; of "2-4" the least' },
  { name: 'ntasks', short: 'n', value: 'number', about: 'processes that mpirun or srun starts, default one a node' },
  { name: 'ntasks-per-node', value: 'number', about: 'of them on each node' },
  { name: 'cpus-per-task', short: 'c', value: 'number', about: 'cores of each, default 1' },
  { name: 'mem', value: 'size', about: 'memory of each node: megabytes, or with K, M, G, T' },
  { name: 'mem-per-cpu', value: 'size', about: 'memory for each core instead' },
  { name: 'time', short: 't', value: 'time', about: 'limit: minutes, h:m:s, days-h:m:s' },
  { name: 'array', short: 'a', value: 'indexes', about: 'many runs of the script: 0-15, 1,3,5, 0-99%4 (four at once)' },
  { name: 'output', short: 'o', value: 'file', about: 'file for standard output: %j %A %a %x %N', here: 'output-file' },
  { name: 'error', short: 'e', value: 'file', about: 'file for standard error, default that of standard output' },
  { name: 'partition', short: 'p', value: 'pool', about: 'pool to run on, default every machine' },
  { name: 'dependency', short: 'd', value: 'list', about: 'jobs that must have ended: afterok:JOB[:JOB], afterany:JOB' },
  { name: 'export', value: 'list', about: 'variables to take along: NAME or NAME=value, with commas' },
  { name: 'chdir', short: 'D', value: 'dir', about: 'directory to start in, below the task’s own; or one that all machines have' },
  { name: 'gres', value: 'list', about: 'gpu:N, GPUs of each node' },
  { name: 'gpus', short: 'G', value: 'number', about: 'GPUs in all' },
  { name: 'gpus-per-node', value: 'number', about: 'GPUs of each node' },
  { name: 'requeue', about: 'run again when a machine is lost (default)' },
  { name: 'no-requeue', about: 'fail then instead' },
  { name: 'wait', short: 'W', about: 'return when it has ended, with its exit code' },
]

/** What has no meaning in a mesh, and does no harm to pass over: a flag, or with a value. */
export const ignoredOptions: readonly { name: string; short?: string; hasValue: boolean }[] = [
  { name: 'mail-type', hasValue: true },
  { name: 'mail-user', hasValue: true },
  { name: 'account', short: 'A', hasValue: true },
  { name: 'qos', short: 'q', hasValue: true },
  { name: 'comment', hasValue: true },
  { name: 'open-mode', hasValue: true },
  { name: 'exclusive', hasValue: false },
  { name: 'distribution', short: 'm', hasValue: true },
  { name: 'hint', hasValue: true },
  { name: 'threads-per-core', hasValue: true },
  { name: 'ntasks-per-core', hasValue: true },
  { name: 'verbose', short: 'v', hasValue: false },
  { name: 'parsable', hasValue: false },
]

export interface KnownOption {
  name: string
  hasValue: boolean
  isIgnored: boolean
}

const known = new Map<string, KnownOption>()
for (const { name, short, value } of slurmOptions) {
  const option = { name, hasValue: value !== undefined, isIgnored: false }
  known.set(`--${name}`, option)
  if (short !== undefined) known.set(`-${short}`, option)
}
for (const { name, short, hasValue } of ignoredOptions) {
  const option = { name, hasValue, isIgnored: true }
  known.set(`--${name}`, option)
  if (short !== undefined) known.set(`-${short}`, option)
}

/** By its spelling with dashes, `--nodes` or `-N`. */
export function knownOption(spelling: string): KnownOption | undefined {
  return known.get(spelling)
}
