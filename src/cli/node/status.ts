/** `batchmesh status`. */
import type { Command } from 'commander'
import type { MeshStatus } from '../../../protocols/control.ts'
import { toMeshError } from '../../../protocols/errors.ts'
import type { Context } from '../context.ts'
import { showCapacity, showDuration, showTime } from '../format.ts'
import type { Fields } from '../output.ts'

export function register(program: Command, context: Context): void {
  const command = program
    .command('status')
    .description('Shows this machine’s node and, when its coordinator answers, the mesh.')
    .addHelpText('after', '\nExample:\n  batchmesh status -o json')
  context.action(command, async () => {
    const mesh = await context.mesh()
    const node = await mesh.local.call('status', {})
    let whole: MeshStatus | undefined
    let problem: string | undefined
    // Others are refused by the coordinator; whether it is there is seen all the same.
    const mayAsk = node.roles.includes('submitter') || node.roles.includes('admin')
    if (mayAsk) {
      try {
        whole = await mesh.control.call('status', {}, { timeoutMs: 10_000 })
      } catch (error) {
        problem = toMeshError(error).message
      }
    } else if (!node.connected) problem = 'The coordinator of the mesh cannot be reached now.'
    const fields: Fields = [
      ['node', `${node.name} (${node.peer})`],
      ['roles', `${node.roles.join(', ')}${node.isCoordinator ? ' (this is the coordinator)' : ''}`],
      ['lends', `${showCapacity(node.lends)}, ${node.class}`],
      [
        'labels',
        Object.entries(node.labels)
          .map(([name, value]) => `${name}=${value}`)
          .join(' '),
      ],
      ['running tasks', node.runningTasks],
      ['tasks run as', `${node.user} (isolation: ${node.isolation})`],
      ['up', `${showDuration(Date.now() - node.startTime)} (process ${node.pid}, version ${node.version})`],
      ['addresses', node.addresses.join('\n')],
      ['certificate until', showTime(node.certificateExpires)],
      ['data', node.dataDir],
      ['mesh', node.meshId],
      ...(mayAsk ? [] : [['connected', node.connected] as const, onlyWorker]),
      [
        'coordinator',
        problem === undefined && whole === undefined
          ? undefined
          : whole === undefined
            ? `out of reach: ${problem}`
            : `${whole.coordinator.name} (${whole.coordinator.peer}), up ${showDuration(Date.now() - whole.coordinator.startTime)}`,
      ],
      ...(whole === undefined ? [] : meshFields(whole)),
    ]
    await context.one(fields, { node, mesh: whole, problem })
    return problem === undefined ? 0 : 3
  })
}

const onlyWorker = ['note', 'This machine may not submit (it has no role submitter), so nothing of the mesh is shown here.'] as const

function meshFields(status: MeshStatus): Fields {
  const { tasks } = status
  return [
    ['machines', `${status.machines.connected} connected, ${status.machines.known} known`],
    ['capacity', showCapacity(status.capacity)],
    ['pools', status.pools],
    ['jobs', `${status.jobs.active} active, ${status.jobs.completed} completed`],
    ['tasks', `${tasks.active} waiting, ${tasks.running} running, ${tasks.succeeded} succeeded, ${tasks.failed} failed`],
    ['heartbeat lag', `${Math.round(status.heartbeatLagMs)} ms`],
  ]
}
