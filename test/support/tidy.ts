/**
 * The rules of the house, as functions of a tree of sources: path -> text, paths relative to the checkout with `/`.
 * Each returns sentences that name the file and the way out; none means that the rule holds.
 */
import { posix } from 'node:path'

export type Tree = ReadonlyMap<string, string>

export interface Import {
  /** As written: a relative path, `node:fs`, or a package. */
  specifier: string
  /** Erased when it runs. It counts for cycles and doors all the same, but brings no behaviour into a pure file. */
  typeOnly: boolean
  /** `export … from`. */
  reexport: boolean
}

const wingsAndGround = /^(?:src|node|coordinator|protocols)\//
const code = /\.(?:ts|mts|mjs|js)$/

const isProgram = (path: string): boolean => wingsAndGround.test(path) && code.test(path)

/** The text without comments. Good enough for code that a formatter keeps: a `//` in a string follows a colon or a quote. */
export function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

// between the keyword and `from` stand only names, braces, commas, stars: no expression, no other statement
const statement = /^[ \t]*(import|export)\s+(type\s+)?((?:(?!\b(?:import|export)\b)[\w$*\s,{}])*?)\s*\bfrom\s*['"]([^'"]+)['"]/gm
const sideEffect = /^[ \t]*import\s*['"]([^'"]+)['"]/gm
const dynamic = /\bimport\(\s*['"]([^'"]+)['"]\s*[,)]/g

export function importsOf(text: string): Import[] {
  const bare = withoutComments(text)
  const found: Import[] = []
  for (const [, keyword, type, names = '', specifier = ''] of bare.matchAll(statement)) {
    const inBraces =
      /^\{([\s\S]*)\}$/
        .exec(names.trim())?.[1]
        ?.split(',')
        .filter((name) => name.trim() !== '') ?? []
    const everyNameIsType = inBraces.length > 0 && inBraces.every((name) => /^\s*type\s/.test(name))
    found.push({ specifier, typeOnly: type !== undefined || everyNameIsType, reexport: keyword === 'export' })
  }
  for (const [, specifier = ''] of bare.matchAll(sideEffect)) found.push({ specifier, typeOnly: false, reexport: false })
  for (const [, specifier = ''] of bare.matchAll(dynamic)) found.push({ specifier, typeOnly: false, reexport: false })
  return found
}

/** Path of a relative import from `path`; undefined for a package or a built-in module. */
export function target(path: string, specifier: string): string | undefined {
  return specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : undefined
}

/** `@scope/name` or `name` of a package import; undefined for a file or a built-in module. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith('.') || specifier.startsWith('node:')) return undefined
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/')
}

/** True if a path is one of the places, or lies in one that ends in `/`. */
export function isIn(path: string, places: readonly string[]): boolean {
  return places.some((place) => (place.endsWith('/') ? path.startsWith(place) : path === place))
}

/** The ground imports itself; the wings the ground and themselves; only the mesh, and never a face, imports the wings. */
export function wingRule(tree: Tree): string[] {
  const wrong: string[] = []
  for (const [path, text] of tree) {
    if (!isProgram(path)) continue
    const part = path.slice(0, path.indexOf('/') + 1)
    for (const { specifier } of importsOf(text)) {
      const to = target(path, specifier)
      if (to === undefined) continue
      const allowed =
        part === 'protocols/'
          ? ['protocols/']
          : part !== 'src/'
            ? [part, 'protocols/']
            : isIn(path, ['src/mesh.ts', 'src/mesh/'])
              ? ['src/', 'node/', 'coordinator/', 'protocols/']
              : ['src/', 'protocols/', 'package.json']
      if (!isIn(to, allowed)) wrong.push(`${path} imports ${to}; it may import only ${allowed.join(', ')}.`)
    }
  }
  return wrong
}

const impurities: [RegExp, string][] = [
  [/\basync\b|\bawait\b/, 'is asynchronous'],
  [/\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b/, 'reads the clock'],
  [/\bMath\.random\b|\brandomUUID\b|\bgetRandomValues\b/, 'draws random numbers'],
  [/\bset(?:Timeout|Interval|Immediate)\b|\bqueueMicrotask\b|\bnextTick\b/, 'sets a timer'],
  [/(?<!\.)\bprocess\.\w/, 'reads its process'],
]

/** What a file calls when it runs: itself and, through its imports, others of the tree; where `isCut` says so, no further. */
function reached(tree: Tree, start: readonly string[], isCut: (from: string, to: string) => boolean): Map<string, string> {
  /** Each file with the one that called it first. */
  const callers = new Map(start.map((path) => [path, path]))
  for (const path of callers.keys()) {
    for (const { specifier, typeOnly } of importsOf(tree.get(path) ?? '')) {
      const to = target(path, specifier)
      if (to !== undefined && !typeOnly && tree.has(to) && !callers.has(to) && !isCut(path, to)) callers.set(to, path)
    }
  }
  return callers
}

/**
 * Deciding code is pure: time, ids and randomness come in as arguments. That holds for the files that decide and for
 * whatever they call, except where `isCut` says that a call is harmless.
 */
export function purityRule(
  tree: Tree,
  decides: (path: string) => boolean,
  isCut: (from: string, to: string) => boolean = () => false,
): string[] {
  const wrong: string[] = []
  const start = [...tree.keys()].filter((path) => isProgram(path) && decides(path))
  for (const [path, caller] of reached(tree, start, isCut)) {
    const text = tree.get(path) ?? ''
    const who = caller === path ? path : `${path} (called by ${caller})`
    const bare = withoutComments(text)
    for (const [pattern, what] of impurities)
      if (pattern.test(bare)) wrong.push(`${who} ${what}; deciding code gets such things as arguments.`)
    for (const { specifier, typeOnly } of importsOf(text)) {
      if (!typeOnly && specifier.startsWith('node:')) wrong.push(`${who} imports ${specifier}; deciding code uses no built-in module.`)
    }
  }
  return wrong
}

/**
 * One door per outside library: a package is imported by one file, or only within the places that `doors` names for it
 * (a key ending in `/` stands for every package of that scope).
 */
export function doorRule(tree: Tree, doors: Readonly<Record<string, readonly string[]>>): string[] {
  const wrong: string[] = []
  const users = new Map<string, Set<string>>()
  for (const [path, text] of tree) {
    if (!isProgram(path)) continue
    for (const { specifier } of importsOf(text)) {
      const name = packageOf(specifier)
      if (name === undefined) continue
      users.set(name, (users.get(name) ?? new Set()).add(path))
    }
  }
  for (const [name, paths] of users) {
    const places = doors[name] ?? doors[`${name.split('/')[0]}/`]
    if (places === undefined) {
      if (paths.size > 1) wrong.push(`${name} is imported by ${[...paths].toSorted().join(' and ')}; give it one door.`)
      continue
    }
    for (const path of paths) if (!isIn(path, places)) wrong.push(`${path} imports ${name}, whose door is ${places.join(', ')}.`)
  }
  return wrong
}

/** No file reaches itself by its imports; those of types count too. Names each knot once, as a way round it. */
export function cycleRule(tree: Tree): string[] {
  const wrong: string[] = []
  const done = new Set<string>()
  const trail: string[] = []
  const visit = (path: string): void => {
    const at = trail.indexOf(path)
    if (at >= 0) {
      wrong.push(`Import cycle: ${[...trail.slice(at), path].join(' -> ')}.`)
      return
    }
    if (done.has(path)) return
    trail.push(path)
    for (const { specifier } of importsOf(tree.get(path) ?? '')) {
      const to = target(path, specifier)
      if (to !== undefined && tree.has(to)) visit(to)
    }
    trail.pop()
    done.add(path)
  }
  for (const path of tree.keys()) if (code.test(path)) visit(path)
  return wrong
}

/** A file that only passes on what others export hides where things are; the package's own entry is the one that may. */
export function barrelRule(tree: Tree): string[] {
  const wrong: string[] = []
  for (const [path, text] of tree) {
    if (!isProgram(path) || path === 'src/index.ts' || !importsOf(text).some((found) => found.reexport)) continue
    const rest = withoutComments(text)
      .replace(statement, '')
      .replace(sideEffect, '')
      .replace(/^\s*export\s*(?:type\s*)?\{[^}]*\}/gm, '')
    if (/^[\s;]*$/.test(rest)) wrong.push(`${path} only re-exports; import from where the things are.`)
  }
  return wrong
}

export function lengthRule(tree: Tree, maxLines: number): string[] {
  const wrong: string[] = []
  for (const [path, text] of tree) {
    const lines = text.split('\n').length - (text.endsWith('\n') ? 1 : 0)
    if ((code.test(path) || path.startsWith('scripts/')) && lines > maxLines)
      wrong.push(`${path} has ${lines} lines; split it (at most ${maxLines}).`)
  }
  return wrong
}

// spelled apart, so that this file does not break its own rule
const leftovers: [RegExp, string][] = [
  [new RegExp(`\\b(?:TO${'DO'}|FIX${'ME'}|XX${'X'})\\b`), 'has a note of unfinished work'],
  [new RegExp(`\\b(?:it|test|describe)(?:\\.\\w+)*\\.(?:on${'ly'}|sk${'ip'}|to${'do'})\\b`), 'leaves out tests without saying why'],
]

/** Nothing unfinished is left in code, and no test is switched off. */
export function leftoverRule(tree: Tree): string[] {
  const wrong: string[] = []
  for (const [path, text] of tree) {
    if (!code.test(path) && !path.startsWith('scripts/')) continue
    for (const [pattern, what] of leftovers) {
      text.split('\n').forEach((line, index) => {
        if (pattern.test(line)) wrong.push(`${path}:${index + 1} ${what}.`)
      })
    }
  }
  return wrong
}

/** Nothing in the tree ties it to one machine: no path of it, no package registry. */
export function homeRule(tree: Tree, machinePaths: readonly string[]): string[] {
  const wrong: string[] = []
  const registry = /https?:\/\/[^\s"'/]*(?:registry|npm-proxy|nexus|artifactory|verdaccio)[^\s"'/]*\//i
  for (const [path, text] of tree) {
    text.split('\n').forEach((line, index) => {
      for (const machinePath of machinePaths) {
        if (line.includes(machinePath)) wrong.push(`${path}:${index + 1} names ${machinePath}, a path of one machine.`)
      }
      if (registry.test(line)) wrong.push(`${path}:${index + 1} names a package registry; that is the user's own setting.`)
    })
  }
  const lock = tree.get('package-lock.json')
  if (lock !== undefined && /"resolved":\s*"https?:/.test(lock)) {
    wrong.push('package-lock.json has resolved hosts; make it anew with omit-lockfile-registry-resolved=true.')
  }
  return wrong
}
