/** How machines come into a mesh, and find each other again. */
import { readdir, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { Network, whyNoNetwork } from './support/netns.ts'

interface Machine {
  name: string
  connected: boolean
}

const noNetwork = whyNoNetwork()
if (noNetwork !== undefined) console.warn(`tests between network namespaces are skipped: ${noNetwork}`)

async function connected(lab: MeshLab, node: NodeProcess): Promise<string[]> {
  const machines: Machine[] = await lab.json(node, ['machine', 'list'])
  return machines.filter((machine) => machine.connected).map(({ name }) => name)
}

const both = (lab: MeshLab, node: NodeProcess) =>
  lab.until('founder and worker are connected', async () => (await connected(lab, node)).toSorted().join() === 'founder,worker')

describe('joining', () => {
  it('takes the line that the founder prints, and says what it means', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const line = /^ {2}batchmesh (up --join bm1_\w+)$/m.exec(founder.stdout)?.[1]
    expect(line!.length).toBeLessThan(200)
    const network = ['--port', '0', '--listen', '127.0.0.1', '--no-mdns', '--name', 'worker']
    const joined = await lab.cli('worker', [...line!.split(' '), ...network, '--detach'])
    expect(joined.code, joined.stderr).toBe(0)
    expect(joined.stdout).toMatch(/^Node worker \(12D3\w+\) joined mesh /m)
    expect(joined.stdout).toContain('Submitters of this mesh can run programs here as user')
    await both(lab, founder)
    // The token is not shown to those who list processes, and `--detach` leaves a node that goes on by itself.
    const { node } = await lab.json('worker', ['status'])
    expect(node).toMatchObject({ name: 'worker', roles: ['worker', 'submitter'], isCoordinator: false })
    const ran = await lab.cli('worker', ['run', 'echo hello'])
    expect(ran).toMatchObject({ code: 0, stdout: 'hello\n' })
    expect((await lab.cli('worker', ['down'])).code).toBe(0)
    expect((await lab.cli('worker', ['status'])).code).toBe(3)
  })

  it('takes a token from a file and from standard input', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const token = await lab.invite(founder, '--uses', '2')
    await writeFile(join(lab.root, 'mesh.token'), `${token}\n`)
    const network = ['--port', '0', '--listen', '127.0.0.1', '--no-mdns', '--detach']
    const byFile = await lab.cli('one', ['up', '--join', 'mesh.token', '--name', 'one', ...network], { cwd: lab.root })
    expect(byFile.code, byFile.stderr).toBe(0)
    const byInput = await lab.cli('two', ['up', '--join', '-', '--name', 'two', ...network], { stdin: `${token}\n` })
    expect(byInput.code, byInput.stderr).toBe(0)
    await lab.until('all are connected', async () => (await connected(lab, founder)).length === 3)
  })

  it('is refused with the reason, and leaves nothing behind', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const once = await lab.invite(founder)
    const brief: { token: string; expires: number } = await lab.json(founder, ['invite', '--expires', '1s'])
    await lab.up('worker', { join: once })
    await lab.until('the token has expired', () => Date.now() > brief.expires)
    const refused = async (token: string) => {
      const { code, stderr } = await lab.cli('late', ['up', '--join', token, '--port', '0', '--no-mdns'])
      expect(code).not.toBe(0)
      expect(await readdir(lab.dataDir('late')).catch(() => [])).toEqual([])
      return stderr
    }
    expect(await refused(once)).toContain('The invitation is used up. Ask for a new one')
    expect(await refused(brief.token)).toContain('The invitation expired at')
    expect(await refused(`${once.slice(0, 40)}x${once.slice(41)}`)).toContain('cut off or mistyped')
    expect(await refused('./no-such.token')).toContain('The token file ./no-such.token cannot be read')
    await founder.kill()
    const unused = await refused(once)
    expect(unused).toMatch(/answers at none of its addresses \(\/ip4\/127\.0\.0\.1\/tcp\/\d+\)\. Is it running/)
  })

  it('gives what the machine says of itself', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const args = ['--lend-cpus', '1', '--lend-memory', '512MiB', '--label', 'room=lab', '--label', 'rack=2', '--class', 'low-priority']
    await lab.up('worker', { join: founder, args })
    const machine = await lab.json(founder, ['machine', 'show', 'worker'])
    expect(machine).toMatchObject({
      name: 'worker',
      roles: ['worker', 'submitter'],
      capacity: { cores: 1, memoryMiB: 512 },
      labels: { room: 'lab', rack: '2' },
      class: 'low-priority',
      os: process.platform,
      arch: process.arch,
      connected: true,
    })
    expect(machine.diskFreeMiB).toBeGreaterThan(0)
    expect(machine.reserved).toBeDefined()
    expect(machine.version).toMatch(/^\d/)
  })
})

describe('the data directory', () => {
  it('S1: lets only the owner at the control socket and the identity', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const mode = async (...path: string[]) => ((await stat(join(founder.dataDir, ...path))).mode & 0o777).toString(8)
    expect(await mode('run')).toBe('700')
    expect(await mode('run', 'control.sock')).toBe('600')
    expect(await mode('identity')).toBe('700')
    for (const name of await readdir(join(founder.dataDir, 'identity'))) expect(await mode('identity', name), name).toBe('600')
  })

  it('belongs to one node: a second one is refused, and the first goes on', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    for (const join of [[], ['--join', founder.token!]]) {
      const second = await lab.cli(founder, ['up', '--port', '0', '--no-mdns', ...join])
      expect(second.code).not.toBe(0)
      expect(second.stderr).toMatch(/A node runs here already.*Stop it first \(`batchmesh down`\)/)
    }
    expect((await lab.json(founder, ['status'])).node.pid).toBe(founder.pid)
    expect((await lab.cli(founder, ['run', 'echo on'])).stdout).toBe('on\n')
  })

  it('is as before when the port is in use, and the refusal says what to do', async (t) => {
    const lab = await MeshLab.create(t)
    const other = createServer()
    t.onTestFinished(() => new Promise<void>((resolve) => other.close(() => resolve())))
    const port = await new Promise<number>((resolve) =>
      other.listen(0, '127.0.0.1', () => resolve((other.address() as { port: number }).port)),
    )
    const up = ['up', '--listen', '127.0.0.1', '--no-mdns', '--detach', '--port']
    const refused = await lab.cli('founder', [...up, String(port)])
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain(`cannot listen on port ${port}: another program has it`)
    expect(refused.stderr).toContain('Choose another port')
    // The next try is a first start again: it founds a mesh and says how to add a machine.
    const founded = await lab.cli('founder', [...up, '0'])
    expect(founded.stdout).toMatch(/ founded mesh .*batchmesh up --join bm1_/s)
  })
})

describe('a mesh', () => {
  it('is resumed by a node that was killed: the same machine with the same membership', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const first = await lab.up('worker', { join: founder })
    const { peer } = (await lab.json(first, ['status'])).node
    await first.kill('SIGKILL')
    const second = await lab.up('worker')
    expect(second.stdout).toContain(`(${peer}) is back in mesh`)
    await both(lab, founder)
    expect(((await lab.json(founder, ['machine', 'list'])) as Machine[]).length).toBe(2)
  })

  it('comes together again by itself when the founder was away', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const worker = await lab.up('worker', { join: founder })
    await founder.down()
    expect((await lab.cli(worker, ['status'])).code).toBe(3)
    const again = await lab.up('founder')
    expect(again.token).toBeUndefined()
    await both(lab, again)
    const ran = await lab.cli(worker, ['run', 'echo again'])
    expect(ran.stdout).toBe('again\n')
  })

  it('is found at the founder’s new address by a bootstrap address, once', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const worker = await lab.up('worker', { join: founder })
    await worker.down()
    await founder.down()
    const moved = await lab.up('founder', { network: ['--port', '0', '--listen', '127.0.0.1', '--no-mdns'] })
    const [address] = (await lab.json(moved, ['status'])).node.addresses as string[]
    const seeking = await lab.up('worker', { args: ['--bootstrap', address!.replace(/\/p2p\/.*/, '')] })
    await both(lab, moved)
    // Remembered: the next start needs no hint.
    await seeking.down()
    await lab.up('worker')
    await both(lab, moved)
  })

  it.skipIf(noNetwork !== undefined)('is found by mDNS when the token says where the founder no longer is', async (t) => {
    const lab = await MeshLab.create(t)
    const net = await Network.create(['a', 'b'], t)
    const at = (host: string) => ({ within: net.within(host), network: ['--port', '0'] })
    const before = await lab.up('founder', at('a'))
    const token = before.token!
    const address = net.addressOf('a')
    await before.down()
    await net.move('a')
    const founder = await lab.up('founder', at('a'))
    const blind = await lab.cli('blind', ['up', '--join', token, '--port', '0', '--no-mdns'], { within: net.within('b') })
    expect(blind.code).not.toBe(0)
    expect(blind.stderr).toContain(`/ip4/${address}/tcp/`)
    await lab.up('worker', { join: token, ...at('b') })
    await both(lab, founder)
  })
})
