import { afterEach, describe, expect, it } from 'vitest'
import { openControl } from '../../node/control-proxy.ts'
import { controlProtocol } from '../../protocols/control.ts'
import type { MeshError } from '../../protocols/errors.ts'
import { TestMesh } from '../contracts/mesh-fixture.ts'

describe('the way to the coordinator', () => {
  let mesh: TestMesh
  afterEach(() => mesh.stop())

  it('is closed to a revoked machine, which is told so; one that finds nobody is told that', async () => {
    mesh = await TestMesh.start()
    const { founder } = mesh
    const stop = founder.host.serve(controlProtocol, (channel) => channel.receive(() => undefined))
    const member = await mesh.join()
    const open = () => openControl(member.host, founder.host.peer)
    await expect(open()).resolves.toBeTypeOf('function')
    await founder.service.revoke(member.host.peer)
    // At first its connection is merely cut.
    const refusal = expect.poll(() => open().catch((error: MeshError) => error), { timeout: 30_000 })
    await refusal.toMatchObject({ code: 'AuthenticationFailed', message: expect.stringContaining('batchmesh leave') })
    stop()
    await founder.host.stop()
    await expect(open()).rejects.toMatchObject({ code: 'NoCoordinator' })
  })
})
