/** `batchmesh version`: this program, the node of this machine, and the machines of the mesh whose versions differ. */
import type { Command } from 'commander'
import { toMeshError } from '../../protocols/errors.ts'
import type { MachineView } from '../../protocols/model/machine.ts'
import type { Mesh } from '../mesh/client.ts'
import { version } from '../version.ts'
import type { Context } from './context.ts'
import { byVersion, skewNotes, type Versioned } from './versions.ts'

/** Whoever asks for a version waits no longer for a coordinator that is away. */
const patienceMs = 5000

interface Found {
  program: string
  nodeJs: string
  /** Absent: no node runs here. */
  node?: string
  coordinator?: Versioned
  /** Connected machines. */
  machines?: Versioned[]
  /** Why there is no more than this. */
  problem?: string
}

export function register(program: Command, context: Context): void {
  const command = program
    .command('version')
    .description('Prints the versions of this program, of the node that runs here, and of the mesh’s machines.')
    .addHelpText('after', '\nExamples:\n  batchmesh version\n  batchmesh version -o json')
  context.action(command, async () => {
    const found = await find(context)
    const notes = notesOf(found)
    await context.one(
      [
        ['batchmesh', found.program],
        ['Node.js', found.nodeJs],
        ['node', found.node ?? 'none runs here'],
        ['coordinator', found.coordinator && `${found.coordinator.version} (${found.coordinator.name})`],
        ['machines', found.machines && byVersion(found.machines).map(shown).join('\n')],
        ['problem', found.problem],
      ],
      { ...found, notes },
    )
    if (context.format === 'table') for (const note of notes) context.say(`note: ${note}`)
  })
}

function shown([of, names]: [string, string[]]): string {
  return `${names.length} of ${of}`
}

function notesOf({ program, node, coordinator, machines = [] }: Found): string[] {
  const restart =
    node !== undefined && node !== program
      ? [`the node that runs here is of version ${node}, this program of ${program}. Restart it: batchmesh down, then batchmesh up`]
      : []
  return coordinator === undefined ? restart : [...restart, ...skewNotes(coordinator, machines)]
}

async function find(context: Context): Promise<Found> {
  const found: Found = { program: version, nodeJs: process.versions.node }
  let mesh: Mesh
  try {
    mesh = await context.mesh()
    found.node = (await mesh.local.call('status', {}, { timeoutMs: patienceMs })).version
  } catch (error) {
    // Without a node the version of the program is all there is to say.
    const { code, message } = toMeshError(error)
    return code === 'Unreachable' ? found : { ...found, problem: message }
  }
  try {
    const { coordinator } = await mesh.control.call('status', {}, { timeoutMs: patienceMs })
    found.coordinator = { name: coordinator.name, version: coordinator.version }
    found.machines = connected((await mesh.control.call('listMachines', {}, { timeoutMs: patienceMs })).items)
  } catch (error) {
    found.problem = toMeshError(error).message
  }
  return found
}

function connected(machines: readonly MachineView[]): Versioned[] {
  return machines.filter((machine) => machine.connected).map(({ name, version: of }) => ({ name, version: of }))
}
