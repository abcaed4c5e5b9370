/** Versions of a mesh's machines: which differ, and whether by more than works together. */

/** `patch`: they may differ freely; `neighbour`: one minor version, works together; `apart`: more than that, which nobody has tried. */
export type Skew = 'same' | 'patch' | 'neighbour' | 'apart'

/** How far two versions are apart, both as `major.minor.patch`. What is no such text is apart from all but itself. */
export function skewOf(one: string, other: string): Skew {
  if (one === other) return 'same'
  const [a, b] = [partsOf(one), partsOf(other)]
  if (a === undefined || b === undefined || a.major !== b.major) return 'apart'
  const minors = Math.abs(a.minor - b.minor)
  return minors === 0 ? 'patch' : minors === 1 ? 'neighbour' : 'apart'
}

function partsOf(version: string): { major: number; minor: number } | undefined {
  const found = /^(\d+)\.(\d+)\.\d+(?:[-+].*)?$/.exec(version)
  return found === null ? undefined : { major: Number(found[1]), minor: Number(found[2]) }
}

export interface Versioned {
  name: string
  version: string
}

/** Names by version, the version with most machines first. */
export function byVersion(machines: readonly Versioned[]): [version: string, names: string[]][] {
  const groups = new Map<string, string[]>()
  for (const { name, version } of machines) groups.set(version, [...(groups.get(version) ?? []), name])
  return [...groups].sort(([a, first], [b, second]) => second.length - first.length || (a < b ? 1 : -1))
}

/** Names that a sentence holds before it says "and n more". */
const maxNames = 5

/** One sentence a group of machines whose version is not the coordinator's; none when all are alike. */
export function skewNotes(coordinator: Versioned, machines: readonly Versioned[]): string[] {
  return byVersion(machines.filter(({ version }) => version !== coordinator.version)).map(([version, names]) => {
    const more = names.length > maxNames ? ` and ${names.length - maxNames} more` : ''
    const who = `${names.slice(0, maxNames).join(', ')}${more}`
    const is = names.length === 1 ? 'is' : 'are'
    const what = `${who} ${is} of version ${version}, the coordinator (${coordinator.name}) of ${coordinator.version}`
    return skewOf(version, coordinator.version) === 'apart'
      ? `${what}: that is further apart than neighbours, which alone are known to work together. Upgrade the older side.`
      : `${what}: they work together, but what is new needs the newer version on both sides.`
  })
}
