/**
 * Four people's first hour, each written down as the script that they would type: through the command line and the
 * library alone. The scripts check what they claim; here they are only given machines of their own.
 */
import { chmod, mkdir } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { batchmesh, MeshLab } from './support/mesh-lab.ts'

const hours = join(import.meta.dirname, 'first-hour')

/** Several machines on one: free ports, loopback, and no settings of whoever runs this. */
function setting(home: string): Record<string, string> {
  return {
    HOME: home,
    PATH: `${dirname(batchmesh)}${delimiter}${process.env.PATH}`,
    BATCHMESH_CONFIG: '',
    BATCHMESH_PORT: '0',
    BATCHMESH_LISTEN: '127.0.0.1',
    BATCHMESH_MDNS: 'false',
    BATCHMESH_LEND_CPUS: '2',
  }
}

describe('the first hour of', () => {
  it.each([
    ['somebody with some workstations and a folder of inputs', ['bash', join(hours, 'folder.sh')]],
    ['somebody who knows az batch', ['bash', join(hours, 'az.sh')]],
    ['somebody from a cluster', ['bash', join(hours, 'hpc.sh')]],
    ['a TypeScript programmer', [process.execPath, join(hours, 'typescript.ts')]],
  ])('%s passes', async (_, words) => {
    await using cleanup = new AsyncDisposableStack()
    const lab = await MeshLab.create()
    cleanup.defer(() => lab.close())
    const home = join(lab.root, 'home')
    await mkdir(home)
    await chmod(home, 0o755)
    const running = lab.spawn(words, { cwd: home, env: setting(home) })
    running.child.stdin!.end()
    const { code, stdout, stderr } = await running.exited
    expect(code, `${stdout}\n${stderr}`).toBe(0)
  })
})
