/** `batchmesh pool …` and `batchmesh node list`. */
import { type Command, Option } from 'commander'
import { type MpiFlavor, mpiFlavorSchema, mpiName } from '../../protocols/model/machine.ts'
import { type DeallocationOption, defaultPoolId, type NodeView, type PoolView } from '../../protocols/model/pool.ts'
import { type Context, collect, given, integer, oneOf, pairs, type Register } from './context.ts'
import { durationMs, showCapacity, showTime } from './format.ts'
import { poolFromJson, readJson } from './json-file.ts'
import type { Column, Fields } from './output.ts'

export const register: Register = (program, context, name) => (name === 'pool' ? pool(program, context) : node(program, context))

const columns: Column<PoolView>[] = [
  { title: 'id', value: (p) => p.id },
  { title: 'state', value: (p) => (p.state === 'active' ? p.allocationState : p.state) },
  { title: 'nodes', value: (p) => nodes(p) },
  { title: 'size', value: (p) => p.vmSize },
  { title: 'slots', value: (p) => (p.id === defaultPoolId ? 'cores' : p.taskSlotsPerNode), right: true },
  { title: 'running', value: (p) => p.runningTasks, right: true },
  { title: 'waiting', value: (p) => p.pendingTasks, right: true },
  { title: 'problem', value: (p) => p.resizeErrors[0]?.message },
]

function nodes(pool: PoolView): string {
  const low = pool.targetLowPriorityNodes > 0 || pool.currentLowPriorityNodes > 0
  return `${pool.currentDedicatedNodes}/${pool.targetDedicatedNodes}${low ? ` + ${pool.currentLowPriorityNodes}/${pool.targetLowPriorityNodes} low` : ''}`
}

function fields(p: PoolView): Fields {
  return [
    ['id', p.id],
    ['name', p.displayName],
    ['state', `${p.state}, ${p.allocationState} since ${showTime(p.allocationStateTransitionTime)}`],
    ['nodes', `${nodes(p)} (current/target)`],
    ['size', p.id === defaultPoolId ? 'what each machine lends and no pool has' : `${p.vmSize} (${showCapacity(p.nodeSize)})`],
    ['task slots', p.id === defaultPoolId ? 'one a core' : `${p.taskSlotsPerNode} a node, ${p.nodeFillType}`],
    [
      'labels',
      Object.entries(p.labels ?? {})
        .map(([name, value]) => `${name}=${value}`)
        .join(' '),
    ],
    ['MPI', p.mpi === undefined ? undefined : mpiName(p.mpi)],
    ['lifetime', p.poolLifetimeOption === undefined ? undefined : 'until its last active job ends'],
    ['between nodes', p.enableInterNodeCommunication],
    ['tasks', `${p.runningTasks} running, ${p.pendingTasks} waiting`],
    ['created', showTime(p.creationTime)],
    ['problems', p.resizeErrors.map(({ code, message }) => `${code}: ${message}`).join('\n')],
  ]
}

interface CreateOptions {
  id?: string
  jsonFile?: string
  vmSize?: string
  displayName?: string
  targetDedicatedNodes?: string
  targetLowPriorityNodes?: string
  taskSlotsPerNode?: string
  nodeFillType?: string
  enableInterNodeCommunication?: boolean
  resizeTimeout?: string
  label?: string[]
  mpi?: string
  metadata?: string[]
}

function pool(program: Command, context: Context): void {
  const group = program
    .command('pool')
    .description('Pools: nodes of one size, taken from the machines of the mesh. The pool "default" is always there.')
  create(group, context)

  const list = group.command('list').description('Lists the pools.').addHelpText('after', '\nExample:\n  batchmesh pool list')
  context.action(list, async () => context.list(columns, (await (await context.mesh()).control.call('listPools', {})).items))

  const show = group
    .command('show')
    .description('Shows a pool.')
    .argument('[pool]')
    .option('--pool-id <id>')
    .addHelpText('after', '\nExample:\n  batchmesh pool show big')
  context.action<{ poolId?: string }>(show, async (options, [id]) => {
    const mesh = await context.mesh()
    const view = await mesh.control.call('getPool', { poolId: given(options.poolId ?? id, 'pool') })
    await context.one(fields(view), view)
  })
  resize(group, context)

  const remove = group
    .command('delete')
    .description('Deletes a pool and gives its nodes back; its running tasks are run again when there is a pool for them.')
    .argument('[pool]')
    .option('--pool-id <id>')
    .option('-y, --yes', 'accepted as Azure’s own command line has it; nothing is asked')
    .addHelpText('after', '\nExample:\n  batchmesh pool delete big')
  context.action<{ poolId?: string }>(remove, async (options, [id]) => {
    const poolId = given(options.poolId ?? id, 'pool')
    await (await context.mesh()).control.call('deletePool', { poolId })
    await context.done(`Pool ${poolId} is being deleted.`, { deleted: poolId })
  })
}

function create(group: Command, context: Context): void {
  const command = group
    .command('create')
    .description('Creates a pool.')
    .argument('[pool]', 'its id')
    .option('--id <id>')
    .option('--vm-size <size>', 'an Azure size such as standard_d2s_v3, or cores=2,memory=4GiB')
    .option('--target-dedicated-nodes <number>', 'nodes on machines that stay')
    .option('--target-low-priority-nodes <number>', 'nodes on machines that may leave')
    .option('--task-slots-per-node <number>', 'tasks that run on a node at once, default 1')
    .addOption(new Option('--node-fill-type <type>', 'spread tasks over nodes, or pack them').choices(['spread', 'pack']))
    .option('--enable-inter-node-communication', 'for multi-instance tasks')
    .option('--resize-timeout <duration>', 'give up finding machines after this, default 15m')
    .option('--label <name=value>', 'only machines with this label; may repeat', collect)
    .option('--mpi <flavor>', 'only machines with this MPI: openmpi or mpich, with a version if need be: openmpi=4.1.4')
    .option('--display-name <text>')
    .option('--metadata <name=value...>')
    .option('--json-file <file>', 'all properties as JSON, in Azure’s shape; - for standard input')
    .addHelpText(
      'after',
      '\nExample:\n  batchmesh pool create big --vm-size cores=4,memory=8GiB --target-dedicated-nodes 3 --task-slots-per-node 4',
    )
  context.action<CreateOptions>(command, async (options, [word]) => {
    const json = options.jsonFile === undefined ? {} : await readJson(options.jsonFile, context.world)
    const spec = poolFromJson(json, {
      id: options.id ?? word,
      displayName: options.displayName,
      vmSize: options.vmSize,
      targetDedicatedNodes: integer(options.targetDedicatedNodes, '--target-dedicated-nodes', 0, 1_000_000),
      targetLowPriorityNodes: integer(options.targetLowPriorityNodes, '--target-low-priority-nodes', 0, 1_000_000),
      taskSlotsPerNode: integer(options.taskSlotsPerNode, '--task-slots-per-node', 1, 256),
      nodeFillType: options.nodeFillType,
      enableInterNodeCommunication: options.enableInterNodeCommunication,
      resizeTimeoutMs: options.resizeTimeout === undefined ? undefined : durationMs(options.resizeTimeout, '--resize-timeout'),
      labels: options.label === undefined ? undefined : Object.fromEntries(pairs(options.label, '--label')),
      mpi: options.mpi === undefined ? undefined : wantedMpi(options.mpi),
      metadata:
        options.metadata === undefined ? undefined : pairs(options.metadata, '--metadata').map(([name, value]) => ({ name, value })),
    })
    const view = await (await context.mesh()).control.call('addPool', spec)
    await context.one(fields(view), view)
  })
}

/** `openmpi`, or `openmpi=4.1.4`. */
export function wantedMpi(text: string): { flavor: MpiFlavor; version?: string } {
  const [word = '', version] = text.split('=', 2)
  const flavor = oneOf(word, '--mpi', mpiFlavorSchema.options)
  return { flavor, ...(version === undefined ? {} : { version }) }
}

interface ResizeOptions {
  poolId?: string
  targetDedicatedNodes?: string
  targetLowPriorityNodes?: string
  nodeDeallocationOption?: DeallocationOption
  resizeTimeout?: string
}

function resize(group: Command, context: Context): void {
  const command = group
    .command('resize')
    .description('Changes how many nodes a pool wants.')
    .argument('[pool]')
    .option('--pool-id <id>')
    .option('--target-dedicated-nodes <number>')
    .option('--target-low-priority-nodes <number>')
    .addOption(
      new Option('--node-deallocation-option <option>', 'what happens to tasks of nodes given back').choices([
        'requeue',
        'terminate',
        'taskcompletion',
      ]),
    )
    .option('--resize-timeout <duration>')
    .addHelpText('after', '\nExample:\n  batchmesh pool resize big --target-dedicated-nodes 0 --node-deallocation-option taskcompletion')
  context.action<ResizeOptions>(command, async (options, [word]) => {
    const targetDedicatedNodes = integer(options.targetDedicatedNodes, '--target-dedicated-nodes', 0)
    const targetLowPriorityNodes = integer(options.targetLowPriorityNodes, '--target-low-priority-nodes', 0)
    if (targetDedicatedNodes === undefined && targetLowPriorityNodes === undefined)
      given(undefined, 'target: --target-dedicated-nodes or --target-low-priority-nodes')
    const mesh = await context.mesh()
    const view = await mesh.control.call('resizePool', {
      poolId: given(options.poolId ?? word, 'pool'),
      targetDedicatedNodes,
      targetLowPriorityNodes,
      nodeDeallocationOption: options.nodeDeallocationOption,
      resizeTimeoutMs: options.resizeTimeout === undefined ? undefined : durationMs(options.resizeTimeout, '--resize-timeout'),
    })
    await context.one(fields(view), view)
  })
}

const nodeColumns: Column<NodeView>[] = [
  { title: 'id', value: (n) => n.id },
  { title: 'pool', value: (n) => n.poolId },
  { title: 'state', value: (n) => n.state },
  { title: 'machine', value: (n) => n.machineName },
  { title: 'size', value: (n) => showCapacity(n.size) },
  { title: 'slots', value: (n) => `${n.runningTaskSlotsCount}/${n.taskSlots}` },
  { title: 'tasks', value: (n) => n.runningTasksCount, right: true },
  { title: 'class', value: (n) => (n.isDedicated ? 'dedicated' : 'low-priority') },
  { title: 'held for', value: (n) => n.heldFor },
]

function node(program: Command, context: Context): void {
  const group = program.command('node').description('Compute nodes: what pools have reserved on machines.')
  const list = group
    .command('list')
    .description('Lists the nodes of a pool, or of all pools.')
    .argument('[pool]')
    .option('--pool-id <id>')
    .addHelpText('after', '\nExample:\n  batchmesh node list --pool-id default')
  context.action<{ poolId?: string }>(list, async (options, [word]) => {
    const mesh = await context.mesh()
    const one = options.poolId ?? word
    const pools = one === undefined ? (await mesh.control.call('listPools', {})).items.map(({ id }) => id) : [one]
    const lists = await Promise.all(pools.map((poolId) => mesh.control.call('listNodes', { poolId })))
    await context.list(
      nodeColumns,
      lists.flatMap(({ items }) => items),
    )
  })
}
