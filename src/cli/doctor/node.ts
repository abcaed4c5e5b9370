/** The node that runs here, if one does: its place in the mesh, its certificate, and the versions around it. */
import type { MeshStatus } from '../../../protocols/control.ts'
import { toMeshError } from '../../../protocols/errors.ts'
import type { LocalStatus } from '../../../protocols/local.ts'
import type { MachineView } from '../../../protocols/model/machine.ts'
import { version } from '../../version.ts'
import type { Context } from '../context.ts'
import { showDuration, showTime } from '../format.ts'
import { skewNotes, skewOf } from '../versions.ts'
import { type Check, ok, problem, warning } from './check.ts'
import type { Skew } from './clock.ts'

const patienceMs = 5000
/** Renewal begins with eight hours left and is tried every half minute: with this much, it has failed for hours. */
const lateMs = 4 * 3_600_000
/** A node whose heartbeats are so late is overloaded. */
const lagMs = 2000

export interface NodeFacts {
  /** Absent: no node runs. */
  node?: LocalStatus
  mesh?: MeshStatus
  machines?: MachineView[]
  skew?: Skew
  /** Why the mesh says nothing. */
  trouble?: string
  /** Why the node says nothing, where something is there. */
  nodeTrouble?: string
}

export async function askNode(context: Context): Promise<NodeFacts> {
  const facts: NodeFacts = {}
  const connection = await context.mesh().catch((error: unknown) => {
    const { code, message } = toMeshError(error)
    if (code !== 'Unreachable') facts.nodeTrouble = message
    return undefined
  })
  if (connection === undefined) return facts
  try {
    facts.node = await connection.local.call('status', {}, { timeoutMs: patienceMs })
  } catch (error) {
    return { nodeTrouble: toMeshError(error).message }
  }
  if (!facts.node.roles.some((role) => role === 'submitter' || role === 'admin')) return facts
  try {
    await connection.control.session()
    const sent = Date.now()
    facts.mesh = await connection.control.call('status', {}, { timeoutMs: patienceMs })
    const travelMs = Date.now() - sent
    const { time } = facts.mesh
    if (time !== undefined) facts.skew = { skewMs: time - (sent + travelMs / 2), withinMs: travelMs / 2 }
    facts.machines = (await connection.control.call('listMachines', {}, { timeoutMs: patienceMs })).items
  } catch (error) {
    facts.trouble = toMeshError(error).message
  }
  return facts
}

/** `now`: ms since 1970. */
export function checkNode({ node, trouble, nodeTrouble }: NodeFacts, now: number): Check[] {
  if (nodeTrouble !== undefined) return [problem('node', nodeTrouble, 'Look at its log, or stop and start it.')]
  if (node === undefined) return [ok('node', 'none runs here; start one with: batchmesh up')]
  const checks = [ok('node', `${node.name}, up ${showDuration(now - node.startTime)}, process ${node.pid}`)]
  if (node.connected && trouble === undefined) checks.push(ok('coordinator', node.isCoordinator ? 'this machine' : 'connected'))
  else {
    const why = trouble ?? 'it cannot be reached now'
    checks.push(problem('coordinator', why, 'Is the machine that founded the mesh up, and its port open? Run batchmesh doctor there.'))
  }
  const left = node.certificateExpires - now
  const until = `until ${showTime(node.certificateExpires, new Date(now))}`
  if (left <= 0)
    checks.push(
      problem('certificate', `expired, ${until}`, 'It renews itself when the founder is reached; check the clocks if it does not.'),
    )
  else if (left < lateMs) checks.push(warning('certificate', `${until}; it should have been renewed`, 'Is the founder up?'))
  else checks.push(ok('certificate', until))
  if (node.heartbeatLagMs > lagMs)
    checks.push(
      warning('load', `a heartbeat was ${showDuration(node.heartbeatLagMs)} late`, 'Lend less of this machine: batchmesh up --lend-cpus N'),
    )
  return checks
}

export function checkVersions({ node, mesh, machines }: NodeFacts): Check {
  const name = 'versions'
  if (node !== undefined && node.version !== version)
    return warning(name, `this program is of ${version}, the node that runs here of ${node.version}`, 'batchmesh down, then batchmesh up')
  if (mesh === undefined || machines === undefined) return ok(name, version)
  const { coordinator } = mesh
  const there = machines.filter(({ connected }) => connected)
  const notes = skewNotes(coordinator, there)
  if (notes.length === 0) return ok(name, `${version}, as all connected machines`)
  const isApart = there.some((machine) => skewOf(machine.version, coordinator.version) === 'apart')
  const upgrade = 'Upgrade the older ones, the founder first (docs/operations.md).'
  return isApart ? problem(name, notes.join('; '), upgrade) : warning(name, notes.join('; '), upgrade)
}
