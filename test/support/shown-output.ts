/** Whether a command printed what a page shows of it. */

/** What is different each time, by what stands in its place. */
const volatile: [RegExp, string][] = [
  [/12D3KooW[1-9A-HJ-NP-Za-km-z]{44}/g, 'PEER'],
  [/\bbm1_[\w-]+/g, 'TOKEN'],
  [/\bk[a-z0-9]{40,}/g, 'MESH'],
  [/\bbaf[a-z0-9]{20,}/g, 'BLOB'],
  [/\brun-\d{8}-\d{6}-[0-9a-f]{8}/g, 'JOB'],
  [/\b(\d{4}-\d\d-\d\d[ T])?\d\d:\d\d:\d\d\b/g, 'TIME'],
  [/\b\d+(\.\d+)?(ms|s|m\d\ds|h\d\dm)\b/g, 'DURATION'],
  [/\bprocess \d+/g, 'process PID'],
  [/\btvm-[a-z0-9]+/g, 'NODE'],
  [/\b\d+ cores?(?=,? (and )?\d)/g, 'CORES'],
  [/\b\d+(\.\d+)? [GM]iB\b/g, 'MEMORY'],
  [/\b\d+ slots?\b/g, 'SLOTS'],
  [/\blargest: \d+/g, 'largest: CORES'],
  [/\b\d+\.\d+\.\d+\b/g, 'VERSION'],
  [/\s+/g, ' '],
]

function plain(line: string): string {
  return volatile.reduce((text, [pattern, word]) => text.replaceAll(pattern, word), line).trim()
}

/** Lines that a slow machine has more of. */
const occasional = /^\d+\/\d+ complete, \d+ running/

/**
 * Sentences on what is shown but was not printed, and the other way round; none when they agree. Times, sizes of
 * machines and made-up names may differ. The order is free: tasks of a mesh end in any.
 */
export function differences(shown: readonly string[], printed: string): string[] {
  const left = printed
    .split('\n')
    .map(plain)
    .filter((line) => line !== '' && !occasional.test(line))
  const wanted = shown.map(plain).filter((line) => line !== '')
  const hasRest = wanted.includes('…')
  const missing: string[] = []
  // exact lines first, so that one with … does not take what another one shows whole
  for (const line of [...wanted].sort((a, b) => Number(a.includes('…')) - Number(b.includes('…')))) {
    if (line === '…') continue
    const at = left.findIndex((other) => matches(line, other))
    if (at < 0) missing.push(`shown but not printed: ${line}`)
    else left.splice(at, 1)
  }
  return hasRest ? missing : [...missing, ...left.map((line) => `printed but not shown: ${line}`)]
}

function matches(shown: string, printed: string): boolean {
  const parts = shown.split('…').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
  return new RegExp(`^${parts.join('.*')}$`).test(printed)
}
