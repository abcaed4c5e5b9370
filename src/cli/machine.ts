/** `batchmesh machine list|show`. */
import type { Command } from 'commander'
import { type MachineView, type MpiFlavor, mpiFlavorSchema, mpiName } from '../../protocols/model/machine.ts'
import { type Context, given } from './context.ts'
import { showBytes, showCapacity, showTime } from './format.ts'
import type { Column, Fields } from './output.ts'
import { skewNotes } from './versions.ts'

const columns: Column<MachineView>[] = [
  { title: 'name', value: (m) => m.name },
  { title: 'state', value: (m) => (m.connected ? 'connected' : 'away') },
  { title: 'class', value: (m) => m.class },
  { title: 'lends', value: (m) => showCapacity(m.capacity) },
  { title: 'reserved', value: (m) => (m.reserved.cores > 0 ? showCapacity(m.reserved) : '') },
  { title: 'tasks', value: (m) => m.runningTasks, right: true },
  { title: 'version', value: (m) => m.version },
  { title: 'os', value: (m) => `${m.os}/${m.arch}` },
  { title: 'roles', value: (m) => m.roles.join(',') },
  { title: 'labels', value: (m) => labels(m) },
  { title: 'peer', value: (m) => m.peer },
]

export function register(program: Command, context: Context): void {
  const machine = program.command('machine').description('Machines of the mesh.')
  const list = machine
    .command('list')
    .description('Lists the machines.')
    .addHelpText('after', '\nExample:\n  batchmesh machine list -o json')
  context.action(list, async () => {
    const mesh = await context.mesh()
    const { items } = await mesh.control.call('listMachines', {})
    await context.list(columns, items)
    if (context.format === 'table') for (const note of notesOf(items)) context.say(`note: ${note}`)
  })
  const show = machine
    .command('show')
    .description('Shows one machine: what it has, lends and runs.')
    .argument('<machine>', 'name or peer id')
    .addHelpText('after', '\nExample:\n  batchmesh machine show my-laptop')
  context.action(show, async (_, [name]) => {
    const mesh = await context.mesh()
    const view = await mesh.control.call('getMachine', { machine: given(name, 'machine') })
    await context.one(
      fields(
        view,
        view.nodes.map((node) => `${node.poolId}/${node.id} (${node.state}, ${showCapacity(node.size)})`),
        view.explanation,
      ),
      view,
    )
  })
}

/** A machine that is away says nothing new of itself: its version is that of its last visit. */
function notesOf(machines: readonly MachineView[]): string[] {
  const coordinator = machines.find(({ isCoordinator }) => isCoordinator)
  if (coordinator === undefined) return []
  return skewNotes(
    coordinator,
    machines.filter(({ connected }) => connected),
  )
}

function labels(machine: MachineView): string {
  return Object.entries(machine.labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(' ')
}

function fields(m: MachineView, nodes: string[], explanation: string[]): Fields {
  return [
    ['name', m.name],
    ['peer', m.peer],
    ['state', m.connected ? 'connected' : `away, last seen ${showTime(m.lastSeen)}`],
    ['roles', `${m.roles.join(', ')}${m.isCoordinator ? ' (the coordinator)' : ''}`],
    ['class', m.class],
    ['lends', showCapacity(m.capacity)],
    ['reserved', showCapacity(m.reserved)],
    ['disk free', showBytes(m.diskFreeMiB * 1024 * 1024)],
    ['labels', labels(m)],
    ['system', `${m.os} ${m.arch}, Batchmesh ${m.version}`],
    ['isolation', m.isolation],
    [
      'MPI',
      m.mpi?.map(({ flavor, version }) => (isMpi(flavor) ? mpiName({ flavor, version }) : `${flavor} ${version}`)).join(', ') || undefined,
    ],
    ['fast network', m.fabrics?.join(', ') || undefined],
    ['running tasks', m.runningTasks],
    ['addresses', m.addresses.join('\n')],
    ['nodes', nodes.join('\n')],
    ['notes', explanation.join('\n')],
  ]
}

/** A newer machine may have one that this program does not know. */
function isMpi(flavor: string): flavor is MpiFlavor {
  return mpiFlavorSchema.safeParse(flavor).success
}
