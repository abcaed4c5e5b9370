/** What a script and the command line ask for, together: the command line goes before the script, as with sbatch. Pure. */
import { MeshError } from '../../../protocols/errors.ts'
import type { Given } from './script.ts'
import {
  type ArraySetting,
  arrayOf,
  count,
  type Dependency,
  dependenciesOf,
  exportOf,
  gpusOf,
  gresOf,
  memoryMiB,
  nodesOf,
  poolOf,
  timeMs,
} from './values.ts'

export interface Settings {
  jobName: string
  nodes?: number
  ntasks?: number
  ntasksPerNode?: number
  cpusPerTask?: number
  memoryPerNodeMiB?: number
  memoryPerCoreMiB?: number
  timeMs?: number
  array?: ArraySetting
  output: string
  error?: string
  poolId?: string
  dependencies: readonly Dependency[]
  env: readonly { name: string; value: string }[]
  directory?: string
  gpus?: number
  gpusPerNode?: number
  isRequeued: boolean
  waits: boolean
  notes: readonly string[]
}

/** Options that say the same in different ways: one on the command line replaces all of them in the script. */
const alternatives: readonly (readonly string[])[] = [
  ['mem', 'mem-per-cpu'],
  ['gres', 'gpus', 'gpus-per-node'],
  ['requeue', 'no-requeue'],
]

function merged(script: readonly Given[], commandLine: readonly Given[]): Map<string, Given> {
  const all = new Map<string, Given>()
  const put = ({ name, value, place }: Given) => {
    // Of two that exclude each other the later one stands.
    if (name === 'requeue' || name === 'no-requeue') all.delete(name === 'requeue' ? 'no-requeue' : 'requeue')
    all.set(name, { name, value, place })
  }
  for (const one of script) put(one)
  for (const { name } of commandLine)
    for (const group of alternatives) if (group.includes(name)) for (const other of group) all.delete(other)
  for (const one of commandLine) put(one)
  return all
}

/** `environment` is that of the submitter, for --export. Throws InvalidPropertyValue, with the place. */
export function settingsOf(
  script: readonly Given[],
  commandLine: readonly Given[],
  { scriptName, environment }: { scriptName: string; environment: Readonly<Record<string, string | undefined>> },
): Settings {
  const all = merged(script, commandLine)
  const read = <T>(name: string, reader: (text: string) => T): T | undefined => {
    const given = all.get(name)
    if (given === undefined) return undefined
    try {
      return reader(String(given.value))
    } catch (error) {
      if (!(error instanceof MeshError)) throw error
      const option = given.place.startsWith('--') ? `${given.place} ${given.value}` : `${given.place}: --${name}=${given.value}`
      throw new MeshError('InvalidPropertyValue', `${option}: ${error.message.replace(/\.$/, '')}.`)
    }
  }
  const text = (value: string) => {
    if (value === '') throw new MeshError('InvalidPropertyValue', 'it is empty')
    return value
  }
  const whole = (value: string) => count(value)
  const exported = read('export', (value) => exportOf(value, environment))
  const notes = exported?.wantsAll
    ? ['--export=ALL: the environment of this shell is not taken along; name the variables that the script needs.']
    : []
  const settings: Settings = {
    jobName: read('job-name', text) ?? scriptName,
    nodes: read('nodes', nodesOf),
    ntasks: read('ntasks', whole),
    ntasksPerNode: read('ntasks-per-node', whole),
    cpusPerTask: read('cpus-per-task', whole),
    memoryPerNodeMiB: read('mem', memoryMiB),
    memoryPerCoreMiB: read('mem-per-cpu', memoryMiB),
    timeMs: read('time', timeMs),
    array: read('array', arrayOf),
    output: read('output', text) ?? (all.has('array') ? 'slurm-%A_%a.out' : 'slurm-%j.out'),
    error: read('error', text),
    poolId: read('partition', poolOf),
    dependencies: read('dependency', dependenciesOf) ?? [],
    env: exported?.env ?? [],
    directory: read('chdir', directoryOf),
    gpus: read('gpus', gpusOf),
    gpusPerNode: read('gpus-per-node', gpusOf) ?? read('gres', gresOf),
    isRequeued: !all.has('no-requeue'),
    waits: all.has('wait'),
    notes,
  }
  const { nodes, ntasks } = settings
  if (nodes !== undefined && ntasks !== undefined && ntasks < nodes)
    throw new MeshError(
      'InvalidPropertyValue',
      `${ntasks} tasks (--ntasks) cannot be on ${nodes} nodes (--nodes): each node gets at least one.`,
    )
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as unknown as Settings
}

function directoryOf(path: string): string {
  if (path === '' || path.includes('\0')) throw new MeshError('InvalidPropertyValue', 'it is no path')
  if (path.split('/').includes('..')) throw new MeshError('InvalidPropertyValue', 'it may not lead out of the directory of the task')
  return path
}
