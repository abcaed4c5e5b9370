/**
 * Patterns of output files (Azure Batch: outputFiles): `*` within a name, `**` over directories, `?`, `[abc]`, `[!a]`;
 * names that begin with a dot only when the pattern names the dot.
 *
 * Matched without regular expressions: a pattern and a path may both come from peers, and no pair of them may keep
 * whoever compares them busy (time grows with the product of their lengths, never faster).
 */
import { MeshError } from '../errors.ts'

/** One name of a pattern: any number of directories, or a test of a name. */
export type Segment = { kind: 'any-depth' } | { kind: 'name'; literal: boolean; matches: (name: string) => boolean }

/** Whether it names anything that can lie in a working directory. */
export function isPattern(pattern: string): boolean {
  const names = namesOf(pattern)
  return !pattern.startsWith('/') && !names.includes('..') && names.length > 0
}

export function patternProblem(pattern: string): string {
  return `The output pattern ${JSON.stringify(pattern)} must be relative to the working directory and must not lead out of it.`
}

function namesOf(pattern: string): string[] {
  return pattern.split('/').filter((name) => name !== '' && name !== '.')
}

/** Throws InvalidPropertyValue for a pattern that leads out of the working directory. */
export function parsePattern(pattern: string): Segment[] {
  if (!isPattern(pattern)) throw new MeshError('InvalidPropertyValue', patternProblem(pattern))
  const names = namesOf(pattern)
  const segments: Segment[] = []
  for (const name of names) {
    // `**/**` says no more than `**`.
    if (name !== '**') segments.push(nameSegment(name))
    else if (segments.at(-1)?.kind !== 'any-depth') segments.push({ kind: 'any-depth' })
  }
  // `a/**` is every file below a.
  return segments.at(-1)?.kind === 'any-depth' ? [...segments, nameSegment('*')] : segments
}

/** What is left of a pattern after a name; an empty rest means that the pattern names it. */
export function step(pattern: Segment[], name: string): Segment[][] {
  const [first, ...rest] = pattern
  if (first === undefined) return []
  if (first.kind === 'name') return first.matches(name) ? [rest] : []
  const results = step(rest, name)
  // `**` goes into no directory that begins with a dot.
  if (!name.startsWith('.')) results.push(pattern)
  return results
}

/** Whether one of the patterns names this path. A path that is not plainly relative (`/a`, `a/../b`, `a//b`) is named by none. */
export function matchesPatterns(path: string, patterns: readonly string[]): boolean {
  return patternMatcher(patterns)(path)
}

/** {@link matchesPatterns} for many paths: reads the patterns once. */
export function patternMatcher(patterns: readonly string[]): (path: string) => boolean {
  const parsed = patterns.map(parsePattern)
  return (path) => {
    const names = path.split('/')
    if (path.includes('\0') || names.some((name) => name === '' || name === '.' || name === '..')) return false
    return parsed.some((segments) => namesPath(segments, names))
  }
}

function namesPath(segments: readonly Segment[], names: readonly string[]): boolean {
  /** How many segments may be used up by the names so far. */
  let places = new Set([0])
  for (const name of names) {
    const next = new Set<number>()
    for (const start of places) {
      let place = start
      if (segments[place]?.kind === 'any-depth') {
        if (!name.startsWith('.')) next.add(place)
        place += 1
      }
      const segment = segments[place]
      if (segment?.kind === 'name' && segment.matches(name)) next.add(place + 1)
    }
    places = next
  }
  return places.has(segments.length)
}

/** One character of a name, or `*`. */
type Token = '*' | { literal?: string; matches: (character: string) => boolean }

function nameSegment(pattern: string): Segment {
  const tokens = tokensOf(pattern)
  const [first] = tokens
  const namesDot = typeof first === 'object' && first.literal === '.'
  return {
    kind: 'name',
    literal: tokens.every((token) => typeof token === 'object' && token.literal !== undefined),
    matches: (name) => (namesDot || !name.startsWith('.')) && matchTokens(tokens, Array.from(name)),
  }
}

function tokensOf(pattern: string): Token[] {
  const characters = Array.from(pattern)
  const tokens: Token[] = []
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at]!
    // A `]` that stands first in brackets is one of their characters.
    const close = character === '[' ? characters.indexOf(']', at + (characters[at + 1] === '!' ? 3 : 2)) : -1
    if (close > 0) {
      tokens.push(bracket(characters.slice(at + 1, close)))
      at = close
    } else if (character === '*') {
      if (tokens.at(-1) !== '*') tokens.push('*')
    } else if (character === '?') tokens.push({ matches: () => true })
    else tokens.push({ literal: character, matches: (other) => other === character })
  }
  return tokens
}

function bracket(inside: readonly string[]): Token {
  const isNegated = inside[0] === '!'
  const characters = isNegated ? inside.slice(1) : inside
  const ranges: [from: number, to: number][] = []
  for (let at = 0; at < characters.length; at += 1) {
    const from = characters[at]!.codePointAt(0)!
    const isRange = characters[at + 1] === '-' && at + 2 < characters.length
    ranges.push([from, isRange ? characters[at + 2]!.codePointAt(0)! : from])
    if (isRange) at += 2
  }
  return {
    matches: (character) => {
      const point = character.codePointAt(0)!
      return ranges.some(([from, to]) => from <= point && point <= to) !== isNegated
    },
  }
}

/** Each `*` takes as little as it can; only the last one is ever reconsidered. */
function matchTokens(tokens: readonly Token[], characters: readonly string[]): boolean {
  let token = 0
  let at = 0
  let star = -1
  let starAt = 0
  while (at < characters.length) {
    const current = tokens[token]
    if (current === '*') {
      star = token
      starAt = at
      token += 1
    } else if (current?.matches(characters[at]!)) {
      token += 1
      at += 1
    } else if (star >= 0) {
      starAt += 1
      at = starAt
      token = star + 1
    } else return false
  }
  while (tokens[token] === '*') token += 1
  return token === tokens.length
}
