/** What the command line says of versions: this program's, the node's, the mesh's. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import type { MachineView } from '../../protocols/model/machine.ts'
import { skewNotes, skewOf } from '../../src/cli/versions.ts'
import { version } from '../../src/version.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

function machine(name: string, of: string, more: Partial<MachineView> = {}): MachineView {
  return {
    name,
    version: of,
    peer: `12D3KooWpeerOf${name}`,
    class: 'dedicated',
    capacity: { cores: 2, memoryMiB: 1024, gpus: 0 },
    diskFreeMiB: 1000,
    labels: {},
    os: 'linux',
    arch: 'x64',
    isolation: 'bwrap',
    addresses: [],
    nodeRootDir: '/data/tasks',
    roles: ['worker'],
    connected: true,
    reserved: { cores: 0, memoryMiB: 0, gpus: 0 },
    runningTasks: 0,
    lastSeen: 0,
    isCoordinator: false,
    ...more,
  }
}

/** `0.2.0` -> `0.9.0`: certainly another. */
const other = '0.9.0'

describe('how far versions are apart', () => {
  it.each([
    ['0.2.0', '0.2.0', 'same'],
    ['0.2.0', '0.2.7', 'patch'],
    ['0.2.0', '0.1.9', 'neighbour'],
    ['0.2.0', '0.4.0', 'apart'],
    ['0.2.0', '1.2.0', 'apart'],
    ['0.2.0', 'unknown', 'apart'],
  ])('%s and %s are %s', (one, another, skew) => {
    expect(skewOf(one, another)).toBe(skew)
  })

  it('a note names the machines of one version together, and says more of versions that are too far apart', () => {
    const coordinator = { name: 'tower', version: '0.3.0' }
    const machines = ['a', 'b', 'c', 'd', 'e', 'f', 'g'].map((name) => ({ name, version: '0.2.0' }))
    expect(skewNotes(coordinator, [coordinator, ...machines, { name: 'old', version: '0.1.0' }])).toEqual([
      'a, b, c, d, e and 2 more are of version 0.2.0, the coordinator (tower) of 0.3.0: they work together, but what is new needs the newer version on both sides.',
      'old is of version 0.1.0, the coordinator (tower) of 0.3.0: that is further apart than neighbours, which alone are known to work together. Upgrade the older side.',
    ])
  })
})

describe('batchmesh version', () => {
  it('prints what this program is where no node runs', async () => {
    lab.mesh.down = new MeshError('Unreachable')
    const ran = await lab.run('version')
    expect(ran).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toMatch(/^batchmesh: \d+\.\d+\.\d+\nNode\.js: .*\nnode: +none runs here\n$/)
    expect(JSON.parse((await lab.run('version', '-o', 'json')).stdout)).toEqual({
      program: version,
      nodeJs: process.versions.node,
      notes: [],
    })
  })

  it('names the machines that differ from the coordinator, and the node that is older than its program', async () => {
    lab.mesh.status = { ...lab.mesh.status, version: other }
    lab.mesh.machines = [machine('tower', version), machine('laptop', other), machine('gone', '0.0.1', { connected: false })]
    const ran = await lab.run('version')
    expect(ran.code).toBe(0)
    expect(ran.stdout).toMatch(`machines:    1 of ${other}\n             1 of ${version}\n`)
    expect(ran.stderr).toMatch(`the node that runs here is of version ${other}, this program of ${version}`)
    expect(ran.stderr).toMatch(`laptop is of version ${other}, the coordinator (tower) of ${version}`)
    expect(ran.stderr).not.toMatch('gone')
  })

  it('says why it knows nothing of the mesh while the coordinator is away', async () => {
    lab.mesh.onCall = (name) => {
      if (name === 'meshStatus') throw new MeshError('NoCoordinator', 'The coordinator is away.')
    }
    const found = JSON.parse((await lab.run('version', '-o', 'json')).stdout)
    expect(found).toMatchObject({ program: version, node: version, problem: 'The coordinator is away.' })
  })
})

describe('machine list', () => {
  it('has a column of versions, and a note when they differ from the coordinator’s', async () => {
    lab.mesh.machines = [machine('tower', version, { isCoordinator: true }), machine('laptop', other)]
    const ran = await lab.run('machine', 'list')
    expect(ran.stdout.split('\n')[0]).toMatch(/\bVERSION\b/)
    expect(ran.stderr).toMatch(`note: laptop is of version ${other}`)
    lab.mesh.machines = [machine('tower', version, { isCoordinator: true })]
    expect((await lab.run('machine', 'list')).stderr).toBe('')
  })
})

describe('a request that the other side is too old for', () => {
  it('is told with both versions and what to do', async () => {
    lab.mesh.meshStatus = { ...lab.mesh.meshStatus, coordinator: { ...lab.mesh.meshStatus.coordinator, version: '0.1.0' } }
    lab.mesh.onCall = (name) => {
      if (name === 'explain') throw new MeshError('UnsupportedVersion')
      if (name === 'listJobs') throw new MeshError('InvalidRequestBody', 'listJobs: limit: too large')
      if (name === 'gc') throw new MeshError('UnsupportedVersion')
    }
    expect(await lab.run('explain', 'j/t')).toMatchObject({
      code: 1,
      stderr: `batchmesh: The coordinator (tower) is of version 0.1.0 and does not know the request explain of this program, which is of ${version}. Upgrade it.\n`,
    })
    expect((await lab.run('job', 'list')).stderr).toMatch(
      `listJobs: limit: too large (This program is of version ${version}, the coordinator (tower) of 0.1.0`,
    )
    lab.mesh.status = { ...lab.mesh.status, version: '0.1.0' }
    expect((await lab.run('blob', 'gc')).stderr).toMatch(
      'The node of this machine is of version 0.1.0 and does not know the request gc of this program',
    )
  })

  it('is told as it was where both are of one version', async () => {
    lab.mesh.onCall = (name) => {
      if (name === 'explain') throw new MeshError('UnsupportedVersion', 'as it was')
    }
    expect((await lab.run('explain', 'j/t')).stderr).toBe('batchmesh: as it was\n')
  })
})
