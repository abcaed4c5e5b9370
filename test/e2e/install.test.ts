/** The package as people get it: packed, installed elsewhere from the tarball alone, and used there as command and library. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, realpath, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MeshLab, type Ran } from './support/mesh-lab.ts'

const checkout = fileURLToPath(new URL('../..', import.meta.url))

/** The environment of somebody's shell: no Node of this checkout in the path, nothing of an npm that runs this test. */
const outside: Record<string, string | undefined> = {
  PATH: process.env
    .PATH!.split(delimiter)
    .filter((directory) => !directory.includes('node_modules') && !directory.includes('node-gyp-bin'))
    .join(delimiter),
  npm_config_local_prefix: undefined,
  INIT_CWD: undefined,
  NODE_OPTIONS: undefined,
  NODE_PATH: undefined,
}

const noRegistry = /ENOTFOUND|ECONNREFUSED|EAI_AGAIN|ETIMEDOUT|ENETUNREACH|ENOTCACHED/

describe('the package, installed from its tarball', () => {
  let lab: MeshLab
  let home: string
  let unavailable: string | undefined

  const run = (words: readonly string[], env: Record<string, string | undefined> = {}): Promise<Ran> => {
    const running = lab.spawn(words, { cwd: home, env: { ...outside, ...env } })
    running.child.stdin!.end()
    return running.exited
  }
  const batchmesh = (...args: string[]) =>
    run([join(home, 'node_modules/.bin/batchmesh'), ...args], { BATCHMESH_DATA: lab.dataDir('node') })

  beforeAll(async () => {
    lab = await MeshLab.create()
    home = join(lab.root, 'elsewhere')
    await mkdir(home)
    // Without its scripts: what they build is there, and is being used by whoever else tests it.
    const packed = await run(['npm', 'pack', '--ignore-scripts', '--pack-destination', home, checkout])
    if (packed.code !== 0) throw new Error(`npm pack failed: ${packed.stderr}`)
    const [tarball] = (await readdir(home)).filter((name) => name.endsWith('.tgz'))
    await writeFile(join(home, 'package.json'), JSON.stringify({ name: 'elsewhere', private: true, type: 'module' }))
    const installed = await run(['npm', 'install', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund', `./${tarball}`])
    if (installed.code === 0) return
    if (!noRegistry.test(installed.stderr)) throw new Error(`npm install failed: ${installed.stderr}`)
    unavailable = `no package registry can be reached: ${installed.stderr.trim().split('\n')[0]}`
  }, 600_000)

  afterAll(async () => {
    await lab.close()
  })

  it('is whole: the command, the library and its types, and nothing of the tests', async (t) => {
    if (unavailable !== undefined) return t.skip(unavailable)
    const root = join(home, 'node_modules/batchmesh')
    const files = await readdir(root)
    for (const name of ['bin', 'dist', 'docs', 'package.json', 'README.md', 'LICENSE', 'CHANGELOG.md'])
      if (existsSync(join(checkout, name))) expect(files).toContain(name)
    expect(await readdir(join(root, 'dist'))).toEqual(['coordinator', 'node', 'protocols', 'src'])
    expect(files).not.toContain('test')
    expect(await realpath(root), 'no link to the checkout').toBe(join(await realpath(home), 'node_modules/batchmesh'))
  })

  it('says its version, whichever Node is first in the path', async (t) => {
    if (unavailable !== undefined) return t.skip(unavailable)
    const said = await batchmesh('--version')
    expect(said, said.stderr).toMatchObject({ code: 0, stderr: '' })
    expect(said.stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  it('founds a mesh, runs a task, serves a program that imports it, and ends', async (t) => {
    if (unavailable !== undefined) return t.skip(unavailable)
    const up = await batchmesh('up', '--detach', '--port', '0', '--listen', '127.0.0.1', '--no-mdns', '--name', 'here')
    expect(up.code, up.stderr).toBe(0)
    const ran = await batchmesh('run', 'echo hello from $((6 * 7))')
    expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: 'hello from 42\n' })
    await writeFile(join(home, 'program.js'), program)
    const imported = await run([newNode(home), 'program.js', lab.dataDir('node'), lab.dataDir('nowhere')])
    expect(imported, imported.stderr).toMatchObject({ code: 0 })
    expect(JSON.parse(imported.stdout)).toEqual({ machines: ['here'], state: 'completed', refused: 'Unreachable' })
    expect(await batchmesh('down')).toMatchObject({ code: 0, stdout: 'The node has stopped.\n' })
    expect((await batchmesh('status')).code).toBe(3)
  })

  it('has types that a strict program is checked against', async (t) => {
    if (unavailable !== undefined) return t.skip(unavailable)
    await writeFile(join(home, 'typed.ts'), typed)
    const compiler = join(checkout, 'node_modules/typescript/bin/tsc')
    const options = [
      '--noEmit',
      '--strict',
      '--module',
      'nodenext',
      '--target',
      'es2024',
      '--lib',
      'es2024,esnext.disposable,dom',
      '--skipLibCheck',
    ]
    const checked = await run([process.execPath, compiler, ...options, 'typed.ts'])
    expect(checked, checked.stdout).toMatchObject({ code: 0 })
  })
})

/** A Node that is new enough: the one that came with the package, else that of this test. */
function newNode(home: string): string {
  const own = join(home, 'node_modules/.bin/node')
  return existsSync(own) ? own : process.execPath
}

const program = `
import { connect, MeshError } from 'batchmesh'
const [dataDir, nowhere] = process.argv.slice(2)
const refused = await connect({ dataDir: nowhere }).then(() => 'connected', (error) => error instanceof MeshError && error.code)
const mesh = await connect({ dataDir })
const { items } = await mesh.control.call('listMachines', {})
await mesh.control.call('addJob', { id: 'imported', poolId: 'default' })
await mesh.control.call('addTasks', { jobId: 'imported', tasks: [{ id: 't', commandLine: 'true' }] })
let state
for await (const change of mesh.watchJob('imported', AbortSignal.timeout(60_000))) {
  state = (await mesh.control.call('getTask', { jobId: 'imported', taskId: 't' })).state
  if (state === 'completed') break
}
console.log(JSON.stringify({ machines: items.map(({ name }) => name), state, refused }))
await mesh.close()
`

const typed = `
import { connect, type JobView, type MachineView, type Mesh, MeshError, type TaskSpecInput } from 'batchmesh'
const mesh: Mesh = await connect({ dataDir: '/somewhere' })
const { items } = await mesh.control.call('listMachines', {})
export const names: string[] = items.map((machine: MachineView) => machine.name)
export const task: TaskSpecInput = { id: 't', commandLine: 'true' }
export const stateOf = (job: JobView): string => job.state
export const code: string = new MeshError('Unreachable').code
// @ts-expect-error: a data directory is a text
export const wrong: number = mesh.dataDir
// @ts-expect-error: there is no such call
await mesh.control.call('noSuchCall', {})
`
