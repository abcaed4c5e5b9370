/** The isolation tier that a node has or would have here, and what is missing for a better one. */
import { readFileSync } from 'node:fs'
import type { IsolationTier } from '../../../protocols/model/machine.ts'
import { type Check, ok, problem, warning } from './check.ts'
import { which } from './system.ts'

const name = 'isolation'

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

export async function checkIsolation(): Promise<Check> {
  const { findTier } = await import('../../mesh/doctor.ts')
  const { tier, missing } = await findTier()
  const isRoot = process.getuid?.() === 0
  return judgeTier({ tier, missing, isRoot, has: (program) => which(program) !== undefined, forbiddenBy: forbiddenBy() })
}
