import { mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { type ControlSocket, serveControlSocket } from '../../node/control-socket.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { Channel, Service } from '../../protocols/wire.ts'
import { openSocketChannel } from '../../src/mesh/socket.ts'
import { temporaryDir } from '../contracts/mesh-fixture.ts'
import { Inbox } from '../contracts/wire-contract.ts'

const service: Service = { protocol: '/test/local/1', requires: ['admin'], maxFrameBytes: 1024 }
const other: Service = { protocol: '/test/other/1', requires: [], maxFrameBytes: 1024 }

describe('the control socket', () => {
  const dirs: string[] = []
  const servers: ControlSocket[] = []
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close()
    for (const dir of dirs.splice(0)) await rm(dir, { recursive: true, force: true })
  })

  async function socketPath(): Promise<string> {
    const dir = await temporaryDir()
    dirs.push(dir)
    return join(dir, 'run', 'control.sock')
  }

  async function serve(path: string, accept: (channel: Channel) => void = () => {}): Promise<ControlSocket> {
    const server = await serveControlSocket(path, [{ service, open: () => Promise.resolve(accept) }], { peer: 'this-node-itself' })
    servers.push(server)
    return server
  }

  async function refusal(promise: Promise<unknown>): Promise<string> {
    const error = await promise.then(
      () => undefined,
      (thrown: unknown) => thrown,
    )
    if (!(error instanceof MeshError)) throw new Error(`expected a refusal, got ${String(error)}`)
    return `${error.code}: ${error.message}`
  }

  it('S1: can be reached by its owner only', async () => {
    const path = await socketPath()
    await serve(path)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect((await stat(join(path, '..'))).mode & 0o777).toBe(0o700)
  })

  it('takes who opens it for the owner: a submitter and admin', async () => {
    const path = await socketPath()
    const accepted = Promise.withResolvers<Channel>()
    await serve(path, accepted.resolve)
    const near = await openSocketChannel(path, service)
    const far = await accepted.promise
    expect(far.remote).toEqual({ peer: 'this-node-itself', roles: ['submitter', 'admin'] })
    const inbox = new Inbox(near)
    far.send(new Uint8Array([1]))
    await inbox.count(1)
    near.close()
    expect(await far.closed).toBe('remote')
  })

  it('refuses a protocol that the node does not know', async () => {
    const path = await socketPath()
    await serve(path)
    expect(await refusal(openSocketChannel(path, other))).toContain('UnsupportedVersion: The node does not know /test/other/1')
  })

  it('passes on why a service does not take the channel', async () => {
    const path = await socketPath()
    const open = () => Promise.reject(new MeshError('NoCoordinator', 'It is away.'))
    servers.push(await serveControlSocket(path, [{ service, open }]))
    expect(await refusal(openSocketChannel(path, service))).toBe('NoCoordinator: It is away.')
  })

  it('ends a connection that begins with something else', async () => {
    const path = await socketPath()
    await serve(path, () => expect.unreachable())
    const socket = connect(path)
    const closed = new Promise((resolve) => socket.once('close', resolve))
    socket.resume()
    socket.write('GET / HTTP/1.1\r\n\r\n')
    await closed
  })

  it('says that no node runs here, and how to start one, where nobody listens', async () => {
    const path = await socketPath()
    const missing = await refusal(openSocketChannel(path, service))
    expect(missing).toContain('Unreachable: No node runs here')
    expect(missing).toContain('`batchmesh up`')
    const server = await serve(path)
    await server.close()
    expect(await refusal(openSocketChannel(path, service))).toContain('Unreachable: No node runs here')
  })

  it('says that the node closed the connection when it ends before it answers', async () => {
    const path = await socketPath()
    await mkdir(join(path, '..'))
    const server = createServer((socket) => socket.destroy())
    await new Promise<void>((resolve) => server.listen(path, resolve))
    expect(await refusal(openSocketChannel(path, service))).toContain('Unreachable')
    await new Promise((resolve) => server.close(resolve))
  })

  it('is refused where a live node has it, which goes on undisturbed', async () => {
    const path = await socketPath()
    await serve(path)
    expect(await refusal(serveControlSocket(path, []))).toContain('A node runs here already')
    await openSocketChannel(path, service)
  })

  it('replaces what a dead node left', async () => {
    const path = await socketPath()
    await mkdir(join(path, '..'))
    await writeFile(path, '')
    await serve(path)
    await openSocketChannel(path, service)
  })

  it('says how long a path may be when it is too long', async () => {
    const path = join(await socketPath(), 'x'.repeat(120))
    const error = await refusal(serveControlSocket(path, []))
    expect(error).toContain('Choose a shorter data directory')
    expect(error).toMatch(/the system allows 10[37]/)
  })

  it('ends the channels that are open when it closes', async () => {
    const path = await socketPath()
    const server = await serve(path)
    const near = await openSocketChannel(path, service)
    await server.close()
    expect(await near.closed).toBe('lost')
  })
})
