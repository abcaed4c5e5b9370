/** The isolation tier that a node has or would have here, and what is missing for a better one. */
import { readFileSync } from 'node:fs'
import type { IsolationTier } from '../../../protocols/model/machine.ts'
import { type Check, ok, problem, warning } from './check.ts'
import { which } from './system.ts'

const name = 'isolation'
const limitsName = 'limits of tasks'

export interface TierFacts {
  tier: IsolationTier | undefined
  missing: readonly { tier: IsolationTier; why: string }[]
  isRoot: boolean
  /** Programs that are there, of those that tiers need. */
  has: (program: string) => boolean
  /** The system forbids user namespaces to ordinary users, by this setting. */
  forbiddenBy?: string
}

/** What the tier protects is said in docs/operations.md. */
export function judgeTier({ tier, missing, isRoot, has, forbiddenBy }: TierFacts): Check {
  const lines: string[] = []
  const tools = isRoot ? ['unshare', 'setpriv'] : ['unshare', 'setpriv', 'bwrap']
  const packages = new Set(tools.filter((tool) => !has(tool)).map((tool) => (tool === 'bwrap' ? 'bubblewrap' : 'util-linux')))
  if (packages.size > 0) lines.push(`apt install ${[...packages].join(' ')}`)
  if (!isRoot && forbiddenBy !== undefined) lines.push(`sysctl -w ${forbiddenBy}`)
  if (tier === undefined)
    return problem(name, `no way to run tasks works here: ${missing.map(({ why }) => why).join('; ')}`, lines.join('\n') || undefined)
  const isBest = tier === (isRoot ? 'user+pidns' : 'bwrap')
  if (isBest) return ok(name, tier)
  const why = missing.map((better) => better.why).join('; ')
  const found = `${tier}; better ones do not work: ${why}`
  if (lines.length === 0) lines.push('In a container, allow namespaces (such as --privileged), or let the container be the wall.')
  // The same namespaces as bwrap.
  return tier === 'userns' ? ok(name, found, lines.join('\n')) : warning(name, found, lines.join('\n'))
}

/** Settings of Debian and of AppArmor, as what lifts them. */
function forbiddenBy(): string | undefined {
  const settings = [
    ['/proc/sys/kernel/apparmor_restrict_unprivileged_userns', '1', 'kernel.apparmor_restrict_unprivileged_userns=0'],
    ['/proc/sys/kernel/unprivileged_userns_clone', '0', 'kernel.unprivileged_userns_clone=1'],
    ['/proc/sys/user/max_user_namespaces', '0', 'user.max_user_namespaces=15000'],
  ] as const
  return settings.find(([path, value]) => read(path) === value)?.[2]
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

export interface LimitFacts {
  memory: boolean
  processes: boolean
  by: string | undefined
  why: string | undefined
}

/** What the limits are is said in docs/operations.md. */
export function judgeLimits({ memory, processes, by, why }: LimitFacts, isRoot: boolean): Check {
  const held = [...(memory ? ['memory'] : []), ...(processes ? ['processes'] : [])]
  if (memory && processes) return ok(limitsName, `memory and processes are enforced (${by})`)
  const found = held.length === 0 ? 'neither memory nor processes of a task are bounded' : `only ${held[0]} of a task are bounded (${by})`
  const todo = isRoot
    ? 'In a container, let it write its control groups (/sys/fs/cgroup). Some systems keep the memory controller off: start the kernel with cgroup_enable=memory.'
    : 'batchmesh up --service, or in a session: systemd-run --user --scope batchmesh up'
  return warning(limitsName, why === undefined ? found : `${found}: ${why}`, todo)
}

export async function checkIsolation(): Promise<Check[]> {
  const { findTier } = await import('../../mesh/doctor.ts')
  const { tier, missing, limits } = await findTier()
  const isRoot = process.getuid?.() === 0
  const judged = judgeTier({ tier, missing, isRoot, has: (program) => which(program) !== undefined, forbiddenBy: forbiddenBy() })
  return limits === undefined ? [judged] : [judged, judgeLimits(limits, isRoot)]
}
