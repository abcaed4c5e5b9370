/**
 * How a lane's helper is started in each isolation tier (protocols/model/machine.ts), as the words that the spawner
 * executes. Pure.
 *
 * - `user+pidns` (the node is root): pid, mount and IPC namespaces under a root-owned pid 1; the helper and its tasks
 *   have a user of their own, no capabilities, and cannot gain any.
 * - `bwrap`: bubblewrap makes the namespaces for an ordinary user.
 * - `userns`: `unshare` makes them in a user namespace, whose capabilities are dropped before a task runs.
 * - `process-group`: no namespaces, nothing hidden. Where the node is root the lane has a user of its own: files of the
 *   node are out of reach and every process is found by its user. Elsewhere tasks are the node's own user: what wiped its
 *   environment and left its parent is not found (docs/operations: isolation).
 *
 * In all but the last, a lane has temporary directories of its own (temporary.ts).
 *
 * In all of them a shell outside the reach of tasks, where the system allows it (pid 1), says `ended` when the helper
 * ended by itself, which tells a task that killed its own helper from a lane that broke.
 */
import { joinCommandLine, quoteWord } from '../../protocols/model/command-line.ts'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import type { Owner } from '../ports.ts'
import type { Trace } from './script.ts'
import type { Temporary } from './temporary.ts'

export interface LanePlan {
  /** The lane's user; only where the node is root. */
  owner: Owner | undefined
  /** A group that all lanes of this process of the node have and nothing else; only where the node is root. */
  nodeGroup: number
  /** Directories that no task may see, none within another; each is covered by an empty one. */
  hide: readonly string[]
  /** A directory below a hidden one that this lane's job must see. */
  keep: string | undefined
  /** The lane's own temporary directories; not in `process-group`, which has no mounts of its own. */
  temporary: Temporary
  /** Most processes of the lane's user, where no control group counts them. */
  processes: number | undefined
  /** Directories that tasks see but cannot write in, whoever they are. */
  readOnly: readonly string[]
  /** Number of the lane. */
  index: number
  /** Unlikely to occur anywhere else; the same for all lanes of the node. */
  nonce: string
}

/** Environment variable that marks the tasks of a node where nothing else does. */
export const markerName = 'BATCHMESH_LANE'

/** The marker that a lane's tasks carry, if they need one. */
export function markerOf(tier: IsolationTier, plan: LanePlan): readonly [name: string, value: string] | undefined {
  return tier === 'process-group' && plan.owner === undefined ? [markerName, `${plan.nonce}.${plan.index}.`] : undefined
}

/** How the processes of one lane, or of all lanes of the node, are known where no namespace holds them. */
export function traceOf(plan: LanePlan, of: 'lane' | 'node'): Trace {
  if (plan.owner === undefined) return { file: 'environ', text: `${markerName}=${plan.nonce}.${of === 'lane' ? `${plan.index}.` : ''}` }
  return { file: 'status', text: of === 'lane' ? `Uid:\t${plan.owner.uid}\t` : `Groups:\t${plan.nodeGroup} ` }
}

const helper = ['env', '-i', '/bin/sh', '-s']
const unprivileged = ['--inh-caps=-all', '--bounding-set=-all', '--no-new-privs']
// Slave: what the machine mounts and unmounts later is seen in lanes too, and a lane keeps no disk busy.
const namespaces = ['--pid', '--mount', '--ipc', '--fork', '--kill-child', '--propagation', 'slave', '--mount-proc']

/** The command of a lane, best variant first: older tools lack some options. */
export function laneCommands(tier: IsolationTier, plan: LanePlan): string[][] {
  switch (tier) {
    case 'user+pidns':
      return [['unshare', ...namespaces, ...shell(`${mounts(plan)}${around(asOwner(plan))}`)]]
    case 'bwrap':
      return [true, false].map((bounded) => [...bubblewrap(plan, { bounded }), ...shell(around(helper))])
    case 'userns':
      return [
        // The task keeps its user's id: many programs behave differently, or refuse to run, as id 0.
        ['unshare', '--user', '--map-current-user', '--keep-caps', ...namespaces, ...unprivilegedShell(plan, '--ambient-caps=-all')],
        ['unshare', '--user', '--map-root-user', ...namespaces, ...unprivilegedShell(plan)],
      ]
    case 'process-group':
      return [shell(around(plan.owner === undefined ? helper : asOwner(plan)))]
  }
}

function shell(script: string): string[] {
  return ['/bin/sh', '-c', script]
}

/** The shell that waits for the helper, reaps what tasks orphan (as pid 1) and says when the helper ended by itself. */
function around(command: readonly string[]): string {
  return `${joinCommandLine(command)}\necho "ended $?"`
}

function asOwner(plan: LanePlan): string[] {
  const { uid, gid } = plan.owner!
  const bounded = plan.processes === undefined ? helper : ['prlimit', `--nproc=${plan.processes}`, ...helper]
  return ['setpriv', '--reuid', `${uid}`, '--regid', `${gid}`, '--groups', `${plan.nodeGroup}`, ...unprivileged, ...bounded]
}

function unprivilegedShell(plan: LanePlan, ...more: string[]): string[] {
  return shell(`${mounts(plan)}${around(['setpriv', ...more, ...unprivileged, ...helper])}`)
}

/**
 * Shell text that covers, hides and keeps, as pid 1 of new namespaces. What is kept is held open while it is covered, and
 * bound from there. `-n`: the machine's own table of mounts is not for lanes to write.
 */
function mounts(plan: LanePlan): string {
  const lines = ['set -e']
  const kept = plan.keep === undefined ? undefined : quoteWord(plan.keep)
  const { covers, stays, memoryBytes } = plan.temporary
  if (kept !== undefined) lines.push(`exec 3<${kept}`)
  // A shell's descriptors have one digit, and there are no more covers than three, each with what stays in it.
  for (const [at, path] of stays.entries()) lines.push(`exec ${4 + at}<${quoteWord(path)}`)
  for (const { path, from } of covers) {
    if (from !== undefined) lines.push(`mount -n --bind ${quoteWord(from)} ${path}`)
    else lines.push(`mount -n -t tmpfs -o mode=1777,nosuid,nodev,size=${memoryBytes} batchmesh ${path}`)
  }
  for (const [at, path] of stays.entries()) {
    const stay = quoteWord(path)
    lines.push(`mkdir -p ${stay}`, `mount -n --no-canonicalize --rbind /proc/self/fd/${4 + at} ${stay}`, `exec ${4 + at}<&-`)
  }
  for (const path of plan.readOnly)
    lines.push(`mount -n --rbind ${quoteWord(path)} ${quoteWord(path)}`, `mount -n -o ${readOnly} ${quoteWord(path)}`)
  for (const path of plan.hide) lines.push(`mount -n -t tmpfs -o mode=711,size=64k,nr_inodes=256 batchmesh ${quoteWord(path)}`)
  if (kept !== undefined) lines.push(`mkdir -p ${kept}`, `mount -n --no-canonicalize --bind /proc/self/fd/3 ${kept}`, 'exec 3<&-')
  return `${lines.join('\n')}\nset +e\n`
}

/** What the mount has already stays locked in a user namespace, and must be said again. */
const readOnly = 'remount,bind,ro,nosuid,nodev,noexec'

function bubblewrap(plan: LanePlan, options: { bounded: boolean }): string[] {
  const words = ['bwrap', '--unshare-user', '--unshare-pid', '--unshare-ipc', '--as-pid-1', '--die-with-parent']
  words.push('--dev-bind', '/', '/', '--proc', '/proc')
  const { covers, stays, memoryBytes } = plan.temporary
  for (const { path, from } of covers) {
    if (from !== undefined) words.push('--bind', from, path)
    else words.push(...(options.bounded ? ['--size', `${memoryBytes}`] : []), '--perms', '1777', '--tmpfs', path)
  }
  for (const path of stays) words.push('--bind', path, path)
  for (const path of plan.readOnly) words.push('--ro-bind', path, path)
  for (const path of plan.hide) words.push('--tmpfs', path)
  if (plan.keep !== undefined) words.push('--bind', plan.keep, plan.keep)
  for (const path of plan.hide) words.push('--remount-ro', path)
  return [...words, '--']
}
