import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { serveControlSocket } from '../../node/control-socket.ts'
import { loopbackPair } from '../../node/loopback.ts'
import type { Channel } from '../../protocols/wire.ts'
import { openSocketChannel } from '../../src/mesh/socket.ts'
import { controlOf, direct } from '../support/direct.ts'
import { TestMesh, temporaryDir } from './mesh-fixture.ts'
import { describeChannel, describeWire } from './wire-contract.ts'

describeChannel('loopback', (service) => {
  const [near, far] = loopbackPair({ peer: 'self-in-this-process', roles: [] }, service.maxFrameBytes)
  const stop = () => {
    near.close()
    far.close()
    return Promise.resolve()
  }
  return Promise.resolve({ near, far, stop })
})

describeChannel('the control socket', async (service) => {
  const dir = await temporaryDir()
  const path = join(dir, 's')
  const accepted = Promise.withResolvers<Channel>()
  const server = await serveControlSocket(path, [{ service, open: () => Promise.resolve(accepted.resolve) }])
  const near = await openSocketChannel(path, service)
  return {
    near,
    far: await accepted.promise,
    async stop() {
      near.close('lost')
      await server.close()
      await rm(dir, { recursive: true })
    },
  }
})

describeChannel('libp2p', async (service) => {
  const mesh = await TestMesh.start()
  const { host } = await mesh.join()
  const accepted = Promise.withResolvers<Channel>()
  mesh.founder.host.serve(service, accepted.resolve)
  const near = await host.open(mesh.founder.host.peer, service)
  return { near, far: await accepted.promise, stop: () => mesh.stop() }
})

describeChannel('a direct connection', async (service) => {
  const accepted = Promise.withResolvers<Channel>()
  const near = direct({ host: undefined })
  const far = direct({ host: '127.0.0.1', served: () => ({ service, accept: accepted.resolve }) })
  const channel = await near.open(
    { remote: { peer: 'far', roles: [] }, host: '127.0.0.1', service },
    controlOf(far),
    AbortSignal.timeout(10_000),
  )
  return {
    near: channel!,
    far: await accepted.promise,
    async stop() {
      await near.stop()
      await far.stop()
    },
  }
})

describeWire('libp2p on 127.0.0.1', async () => {
  const mesh = await TestMesh.start()
  const { host, membership } = await mesh.join({ roles: ['worker'] })
  return {
    a: host,
    b: mesh.founder.host,
    nobody: {
      peer: peerIdFromPrivateKey(await generateKeyPair('Ed25519')).toString(),
      addresses: [`/ip4/127.0.0.1/tcp/${await closedPort()}`],
    },
    roles: { a: membership.certificate.roles, b: mesh.founder.membership.certificate.roles },
    stop: () => mesh.stop(),
  }
})

/** A port that was free a moment ago. */
function closedPort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer()
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
