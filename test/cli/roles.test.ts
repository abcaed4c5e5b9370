import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
  lab.mesh.onCall = (name) => {
    if (['meshStatus', 'listMachines', 'invite', 'revoke'].includes(name)) throw new MeshError('InsufficientPermissions')
  }
})
afterEach(() => lab.close())

describe('a machine that only works', () => {
  beforeEach(() => {
    lab.mesh.status = { ...lab.mesh.status, roles: ['worker'] }
  })
  it('shows in its status that it is connected and may not submit, and exits with 0', async () => {
    const ran = await lab.run('status')
    expect(ran.code).toBe(0)
    expect(ran.stdout).toMatch(/^connected: +yes$/m)
    expect(ran.stdout).toMatch(/may not submit/)
    expect(ran.stdout).not.toMatch(/out of reach/)
  })
  it('exits with 3 when the coordinator is away', async () => {
    lab.mesh.status = { ...lab.mesh.status, connected: false }
    const ran = await lab.run('status')
    expect(ran).toMatchObject({ code: 3, stdout: expect.stringMatching(/^coordinator: +out of reach/m) })
  })
  it.each([
    [['invite'], 'invite'],
    [['revoke', 'tower'], 'revoke'],
  ])('%j is refused with who could do it', async (argv, verb) => {
    expect(await lab.run(...argv)).toEqual({
      code: 1,
      stdout: '',
      stderr: `batchmesh: Only machines with the role admin can ${verb} (the founder can).\n`,
    })
  })
})

it('an invitation offers and takes only the roles that it can give', async () => {
  expect((await lab.run('invite', '--help')).stdout).not.toMatch(/coordinator/)
  const ran = await lab.run('invite', '--role', 'coordinator')
  expect(ran).toMatchObject({ code: 2, stderr: 'batchmesh: --role coordinator: it is one of worker, submitter, admin.\n' })
})
