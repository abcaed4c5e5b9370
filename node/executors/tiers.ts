/**
 * How a lane's helper is started in each isolation tier (protocols/model/machine.ts), as the words that the spawner
 * executes. Pure.
 *
 * - `user+pidns` (the node is root): pid, mount and IPC namespaces under a root-owned pid 1; the helper and its tasks
 *   have a user of their own, no capabilities, and cannot gain any.
 * - `bwrap`: bubblewrap makes the namespaces for an ordinary user.
 * - `userns`: `unshare` makes them in a user namespace, whose capabilities are dropped before a task runs.
 * - `process-group`: no namespaces. Files of the node are protected only where it is root, by the lane's own user.
 */
import { joinCommandLine, quoteWord } from '../../protocols/model/command-line.ts'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import type { Owner } from '../ports.ts'

export interface LanePlan {
  /** The lane's user; only where the node is root. */
  owner: Owner | undefined
  /** Directories that no task may see; an empty one is in their place. Files and sockets read as empty. */
  hide: readonly string[]
  /** Directories below hidden ones that this lane's job must see. */
  keep: readonly string[]
  /** An empty directory of the node, used as a mount point while the lane starts. */
  parking: string
}

const helper = ['env', '-i', '/bin/sh', '-s']
const unprivileged = ['--inh-caps=-all', '--bounding-set=-all', '--no-new-privs']

/** What the processes of a tier are wrapped in, best variant first: older tools lack some options. */
export function laneCommands(tier: IsolationTier, plan: LanePlan): string[][] {
  switch (tier) {
    case 'user+pidns': {
      const { uid, gid } = plan.owner!
      const asUser = ['setpriv', '--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups', ...unprivileged, ...helper]
      return [[...namespaces, '/bin/sh', '-c', initScript(plan, asUser)]]
    }
    case 'bwrap':
      return [bubblewrap(plan)]
    case 'userns': {
      const dropped = ['setpriv', ...unprivileged]
      return [
        // The task keeps its user's id: many programs behave differently, or refuse to run, as id 0.
        [
          ...userNamespace('--map-current-user', '--keep-caps'),
          '/bin/sh',
          '-c',
          initScript(plan, [...dropped, '--ambient-caps=-all', ...helper]),
        ],
        [...userNamespace('--map-root-user'), '/bin/sh', '-c', initScript(plan, [...dropped, ...helper])],
      ]
    }
    case 'process-group': {
      if (plan.owner === undefined) return [['setsid', ...helper], helper]
      const { uid, gid } = plan.owner
      return [['setsid', 'setpriv', '--reuid', `${uid}`, '--regid', `${gid}`, '--clear-groups', ...unprivileged, ...helper]]
    }
  }
}

// Slave: what the machine mounts and unmounts later is seen in lanes too; a lane keeps no disk busy.
const namespaces = ['unshare', '--pid', '--mount', '--ipc', '--fork', '--kill-child', '--propagation', 'slave', '--mount-proc']

function userNamespace(...options: string[]): string[] {
  return ['unshare', '--user', ...options, ...namespaces.slice(1)]
}

/** Pid 1 of a lane: hides what must be hidden, then waits for the helper and reaps what tasks orphan. */
function initScript(plan: LanePlan, command: readonly string[]): string {
  const lines = ['set -e']
  for (const [at, path] of plan.keep.entries()) {
    if (at === 0) lines.push(`mount -t tmpfs -o mode=700 batchmesh ${quoteWord(plan.parking)}`)
    const parked = quoteWord(`${plan.parking}/${at}`)
    lines.push(`mkdir ${parked}`, `mount --bind ${quoteWord(path)} ${parked}`)
  }
  for (const path of plan.hide) {
    const quoted = quoteWord(path)
    lines.push(`if [ -d ${quoted} ]; then mount -t tmpfs -o mode=711 batchmesh ${quoted}`)
    lines.push(`elif [ -e ${quoted} ]; then mount --bind /dev/null ${quoted}; fi`)
  }
  for (const [at, path] of plan.keep.entries()) {
    lines.push(`mkdir -p ${quoteWord(path)}`, `mount --move ${quoteWord(`${plan.parking}/${at}`)} ${quoteWord(path)}`)
  }
  for (const path of plan.hide) lines.push(`[ ! -d ${quoteWord(path)} ] || mount -o remount,ro,mode=711 ${quoteWord(path)}`)
  return `${lines.join('\n')}\nset +e\n${joinCommandLine(command)}\nexit $?`
}

function bubblewrap(plan: LanePlan): string[] {
  const words = ['bwrap', '--unshare-pid', '--unshare-ipc', '--die-with-parent', '--dev-bind', '/', '/', '--proc', '/proc']
  for (const path of plan.hide) words.push('--tmpfs', path)
  for (const path of plan.keep) words.push('--bind', path, path)
  for (const path of plan.hide) words.push('--remount-ro', path)
  return [...words, '--', ...helper]
}
