/**
 * Patterns of output files (Azure Batch: outputFiles): `*` within a name, `**` over directories, `?`, `[abc]`, `[!a]`;
 * names that begin with a dot only when the pattern names the dot. The one door to picomatch.
 */
import picomatch from 'picomatch'
import { TaskFailure } from '../ports.ts'

/** One name of a pattern: any number of directories, or a test of a name. */
export type Segment = { kind: 'any-depth' } | { kind: 'name'; literal: boolean; matches: (name: string) => boolean }

const options = { dot: false, nobrace: true, noextglob: true, nonegate: true, noglobstar: true } as const

/** Throws a TaskFailure for a pattern that leads out of the working directory. */
export function parsePattern(pattern: string): Segment[] {
  const names = pattern.split('/').filter((name) => name !== '' && name !== '.')
  if (pattern.startsWith('/') || names.includes('..') || names.length === 0) {
    throw new TaskFailure({
      category: 'usererror',
      code: 'FileUploadMiscError',
      message: `The output pattern ${JSON.stringify(pattern)} must be relative to the working directory and must not lead out of it.`,
    })
  }
  const segments = names.map((name): Segment => {
    if (name === '**') return { kind: 'any-depth' }
    if (!/[*?[]/.test(name)) return { kind: 'name', literal: true, matches: (other) => other === name }
    return { kind: 'name', literal: false, matches: picomatch(escapeOthers(name), options) }
  })
  // `a/**` is every file below a.
  return segments.at(-1)?.kind === 'any-depth'
    ? [...segments, { kind: 'name', literal: false, matches: (name) => !name.startsWith('.') }]
    : segments
}

/** Whatever else means something to the matcher stands for itself, outside of brackets. */
function escapeOthers(name: string): string {
  let escaped = ''
  for (let at = 0; at < name.length; at++) {
    const close = name[at] === '[' ? name.indexOf(']', at + (name[at + 1] === '!' ? 3 : 2)) : -1
    if (close > 0) {
      const inner = name.slice(at + 1, close)
      escaped += inner.startsWith('!') ? `[^${inner.slice(1)}]` : `[${inner.replace(/^\^/, '\\^')}]`
      at = close
    } else if (name[at] === '[' || /[(){}+@!|$^\\]/.test(name[at]!)) escaped += `\\${name[at]}`
    else if (name[at] === '*' && name[at + 1] === '*') continue
    else escaped += name[at]
  }
  return escaped
}
