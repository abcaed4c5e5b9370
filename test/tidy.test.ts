/** The rules of the house hold for this tree, and each of them is seen to catch what it is there for. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  barrelRule,
  cycleRule,
  doorRule,
  homeRule,
  importsOf,
  isIn,
  leftoverRule,
  lengthRule,
  purityRule,
  type Tree,
  wingRule,
} from './support/tidy.ts'

const root = dirname(import.meta.dirname)

/** Most lines of a file: what one can still read as a whole. */
const maxLines = 400

/** The parts of the ground that act; everything else there is pure. */
const groundThatActs = ['protocols/failpoint.ts', 'protocols/rpc.ts', 'protocols/stream-channel.ts']
/** The parts of the wings that decide; what they call decides with them. Everything else there acts. */
const deciders = [
  'coordinator/machine.ts',
  'coordinator/raise.ts',
  'coordinator/rendezvous.ts',
  'coordinator/restore.ts',
  'coordinator/explain.ts',
  'coordinator/view.ts',
  'coordinator/event-log.ts',
  'node/intake.ts',
  'node/ledger.ts',
  'node/mpi/agent-script.ts',
  'node/mpi/preset.ts',
  'src/timeline.ts',
]

function decides(path: string): boolean {
  return isIn(path, deciders) || (path.startsWith('protocols/') && !isIn(path, groundThatActs))
}

/** A conversation is data, made with a function of rpc.ts that only puts it into shape. */
function isShaping(from: string, to: string): boolean {
  return from.startsWith('protocols/') && to === 'protocols/rpc.ts'
}

/** Packages with a door of more than one file, and why. */
const doors: Record<string, readonly string[]> = {
  // schemas are the language of the ground; what is read from disk or from the user is checked with them as well
  zod: ['protocols/', 'coordinator/', 'node/', 'src/'],
  // encodings of content ids and signed bytes: functions without a state, used where ids are made
  multiformats: ['protocols/', 'node/'],
  '@ipld/': ['protocols/', 'node/'],
  'ipfs-unixfs': ['node/store/'],
  // the pool and the worker's end of it; hashing, and thread tasks in their own process
  piscina: ['node/store/', 'node/executors/'],
  // each wing has a database of its own
  level: ['coordinator/store.ts', 'node/journal.ts'],
  commander: ['src/cli/'],
  // patterns of inputs, where they are read
  tinyglobby: ['src/cli/', 'src/library/run/'],
  esbuild: ['src/mesh/bundle/'],
  // the host, split over a few files
  libp2p: ['node/host.ts', 'node/host/'],
  '@libp2p/': ['node/host.ts', 'node/host/', 'node/identity.ts'],
  // the types that its parts share, and the text of a peer id
  '@libp2p/interface': ['node/'],
  '@libp2p/peer-id': ['node/'],
  // signatures of machines, certificates and invitations
  '@libp2p/crypto': ['node/'],
  // addresses of peers, also inside of an invitation
  '@multiformats/': ['node/host.ts', 'node/host/', 'node/store/', 'protocols/token.ts'],
}

function readTree(): Tree {
  // with new files that are not ignored, so that a breach shows before it is committed
  const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '-z'], { cwd: root, encoding: 'utf8' })
  const tree = new Map<string, string>()
  for (const path of new Set(listed.split('\0'))) {
    if (path === '' || !existsSync(join(root, path))) continue
    const bytes = readFileSync(join(root, path))
    if (!bytes.includes(0)) tree.set(path, bytes.toString('utf8'))
  }
  return tree
}

/** Paths that would tie a file to this machine; places that are the same everywhere are none. */
function machinePaths(): string[] {
  const common = ['/', '/home', '/root', '/tmp', '/usr', '/opt', '/srv', '/var', '/mnt', '/data', '/app', '/build']
  const own = [root, dirname(root), homedir()].filter((path) => !common.includes(path))
  return own.map((path) => (path === root ? path : `${path}/`))
}

const tree = readTree()

describe('this tree', () => {
  it('keeps the wings apart, and the ground below them', () => {
    expect(wingRule(tree)).toEqual([])
  })
  it('decides in pure code only', () => {
    expect(purityRule(tree, decides, isShaping)).toEqual([])
  })
  it('has every file that is listed here as deciding or acting', () => {
    expect([...deciders, ...groundThatActs].filter((path) => !tree.has(path))).toEqual([])
  })
  it('has one door per outside library', () => {
    expect(doorRule(tree, doors)).toEqual([])
  })
  it('has no import cycle', () => {
    expect(cycleRule(tree)).toEqual([])
  })
  it('has no barrel but the entry of the package', () => {
    expect(barrelRule(tree)).toEqual([])
  })
  it(`has no file over ${maxLines} lines`, () => {
    expect(lengthRule(tree, maxLines)).toEqual([])
  })
  it('has nothing unfinished, and no test switched off', () => {
    expect(leftoverRule(tree)).toEqual([])
  })
  it('is tied to no machine and no registry', () => {
    expect(homeRule(tree, machinePaths())).toEqual([])
  })
  it('is read as a whole: the ground, the wings and the faces are there', () => {
    for (const part of ['protocols/', 'node/', 'coordinator/', 'src/', 'test/']) {
      expect([...tree.keys()].filter((path) => path.startsWith(part) && path.endsWith('.ts')).length, part).toBeGreaterThan(2)
    }
  })
})

/** A small tree: one import line a file is enough for most rules. */
const planted = (files: Record<string, string>): Tree => new Map(Object.entries(files))

describe('imports are read', () => {
  it('whatever their form', () => {
    const text = [
      "import a, { b } from './a.ts'",
      "import type { C } from './c.ts'",
      'import {',
      '  type D,',
      '  type E,',
      "} from './d.ts'",
      "import './effect.ts'",
      "export * from './f.ts'",
      "export type { G } from './g.ts'",
      "const h = await import('./h.ts')",
      'export function x() { return y }',
      "// import z from './commented.ts'",
      "/* import z from './commented.ts' */",
    ].join('\n')
    expect(importsOf(text).map(({ specifier, typeOnly }) => `${specifier}${typeOnly ? ' type' : ''}`)).toEqual([
      './a.ts',
      './c.ts type',
      './d.ts type',
      './f.ts',
      './g.ts type',
      './effect.ts',
      './h.ts',
    ])
  })
})

describe('a breach is caught:', () => {
  it.each([
    ['the ground importing a wing', 'protocols/a.ts', '../node/b.ts'],
    ['a wing importing the other', 'node/a.ts', '../coordinator/b.ts'],
    ['the other wing importing the one', 'coordinator/deep/a.ts', '../../node/b.ts'],
    ['a wing importing a face', 'node/a.ts', '../src/mesh.ts'],
    ['a face importing a wing', 'src/cli/a.ts', '../../node/b.ts'],
  ])('%s', (_, path, specifier) => {
    expect(wingRule(planted({ [path]: `import type { x } from '${specifier}'` }))).toHaveLength(1)
  })

  it('but the mesh may import both wings', () => {
    expect(wingRule(planted({ 'src/mesh.ts': "import '../node/a.ts'\nimport '../coordinator/a.ts'" }))).toEqual([])
  })

  it.each([
    ['a built-in module', "import { join } from 'node:path'"],
    ['an async function', 'export async function f() {}'],
    ['the clock', 'export const now = () => Date.now()'],
    ['the clock by new Date', 'export const now = () => new Date()'],
    ['randomness', 'export const r = () => Math.random()'],
    ['a timer', 'setTimeout(() => {}, 1)'],
    ['the environment', 'export const e = process.env'],
    ['a call of acting code', "import { f } from './acts.ts'"],
  ])('deciding code with %s', (_, text) => {
    const tree = planted({ 'coordinator/decides.ts': text, 'coordinator/acts.ts': 'export async function f() {}' })
    expect(purityRule(tree, (path) => path === 'coordinator/decides.ts')).toHaveLength(1)
  })

  it('but deciding code may speak of time in comments, name types of acting code, and take a date as argument', () => {
    const text = "// Date.now() is the shell's\nimport type { F } from './acts.ts'\nexport const f = (at: number) => new Date(at)"
    const tree = planted({ 'coordinator/decides.ts': text, 'coordinator/acts.ts': 'export type F = 1' })
    expect(purityRule(tree, (path) => path === 'coordinator/decides.ts')).toEqual([])
  })

  it('a library with two doors', () => {
    const tree = planted({ 'node/a.ts': "import x from 'lib/sub'", 'src/b.ts': "import y from 'lib'" })
    expect(doorRule(tree, {})).toHaveLength(1)
    expect(doorRule(tree, { lib: ['node/'] })).toEqual(['src/b.ts imports lib, whose door is node/.'])
    expect(doorRule(tree, { lib: ['node/', 'src/b.ts'] })).toEqual([])
  })

  it('a library of a scope outside the door of the scope', () => {
    expect(doorRule(planted({ 'node/a.ts': "import x from '@s/lib/sub'" }), { '@s/': ['node/host.ts'] })).toHaveLength(1)
  })

  it('an import cycle, of types too', () => {
    const tree = planted({
      'src/a.ts': "import type { B } from './b.ts'",
      'src/b.ts': "import { c } from './deep/c.ts'",
      'src/deep/c.ts': "export { a } from '../a.ts'",
      'src/d.ts': "import { a } from './a.ts'",
    })
    expect(cycleRule(tree)).toEqual(['Import cycle: src/a.ts -> src/b.ts -> src/deep/c.ts -> src/a.ts.'])
  })

  it('a barrel', () => {
    const text = "/** All of it. */\nexport * from './a.ts'\nexport { b } from './b.ts'\n"
    expect(barrelRule(planted({ 'node/index.ts': text }))).toHaveLength(1)
    expect(barrelRule(planted({ 'src/index.ts': text }))).toEqual([])
    expect(barrelRule(planted({ 'node/a.ts': `${text}export const c = 1\n` }))).toEqual([])
  })

  it('a file that is too long', () => {
    const tree = planted({ 'node/long.ts': 'x\n'.repeat(11), 'node/fits.ts': 'x\n'.repeat(10) })
    expect(lengthRule(tree, 10)).toEqual(['node/long.ts has 11 lines; split it (at most 10).'])
  })

  it('a note of unfinished work', () => {
    expect(leftoverRule(planted({ 'node/a.ts': `const a = 1\n// TO${'DO'}: b` }))).toEqual(['node/a.ts:2 has a note of unfinished work.'])
  })

  it('a test that is switched off, or switches off the others', () => {
    for (const word of ['on', 'sk', 'to'].map((start, i) => start + ['ly', 'ip', 'do'][i])) {
      expect(leftoverRule(planted({ 'test/a.test.ts': `it.${word}('x', () => {})` })), word).toHaveLength(1)
    }
    expect(leftoverRule(planted({ 'test/a.test.ts': "it.skipIf(noRoot)('x', () => {})" }))).toEqual([])
  })

  it('a path of the machine, a registry, a host in the lock file', () => {
    const host = `https://registry.${'example'}.org/`
    expect(homeRule(planted({ 'docs/a.md': 'see /somewhere/else/file' }), ['/somewhere/else/'])).toHaveLength(1)
    expect(homeRule(planted({ '.npmrc': `registry=${host}` }), [])).toHaveLength(1)
    expect(homeRule(planted({ 'package-lock.json': `"resolved": "http${'s'}://host.example/x.tgz"` }), [])).toHaveLength(1)
  })
})
