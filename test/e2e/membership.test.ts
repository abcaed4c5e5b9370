/** What membership allows, and how machines leave: revoked, drained, stopped, gone for good, cut off. */
import { chown, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { batchmesh, MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { Network, whyNoNetwork } from './support/netns.ts'
import { lendNone, sh, submit, succeed, Traces, taskOf } from './support/work.ts'

const noNetwork = whyNoNetwork()
if (noNetwork !== undefined) console.warn(`tests between network namespaces are skipped: ${noNetwork}`)
const isRoot = process.getuid?.() === 0
if (!isRoot) console.warn('tests that become an ordinary user are skipped: they need root')

/** Only what is known for certain ends a lease: silence lasts longer than any test. */
const patient = { disconnect: { lostAfterMs: 3_600_000 } }

async function machineNames(lab: MeshLab, node: NodeProcess): Promise<string[]> {
  return ((await lab.json(node, ['machine', 'list'])) as { name: string }[]).map(({ name }) => name).toSorted()
}

/** A task that says that it has started and then waits for the gate. */
async function gated(traces: Traces): Promise<{ commandLine: string; open: () => Promise<void>; starts: () => Promise<number> }> {
  const [starts, gate] = [await traces.file('starts'), await traces.file('gate')]
  return {
    commandLine: sh(`echo started >> ${starts}; ${Traces.gate(gate)}; echo done`),
    open: () => traces.open('gate'),
    starts: async () => (await traces.lines('starts')).length,
  }
}

describe('S1: a role', () => {
  it('worker runs tasks but submits none, and invites nobody', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder', { args: lendNone })
    const worker = await lab.up('worker', { join: await lab.invite(founder, '--role', 'worker') })
    const refused = await lab.cli(worker, ['run', 'echo mine'])
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toMatch(/submitter/)
    expect((await lab.cli(worker, ['invite'])).code).not.toBe(0)
    expect((await lab.cli(founder, ['run', 'echo yours'])).stdout).toBe('yours\n')
  })

  it('submitter submits but is given no task, and invites nobody', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder', { args: lendNone })
    const submitter = await lab.up('submitter', { join: await lab.invite(founder, '--role', 'submitter') })
    await submit(lab, submitter, 'j', [{ id: 't', commandLine: 'true' }])
    const refused = await lab.cli(submitter, ['invite'])
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toMatch(/admin/)
    expect((await lab.cli(submitter, ['revoke', 'founder'])).code).not.toBe(0)
    expect((await taskOf(lab, submitter, 'j/t')).state).toBe('active')
    await lab.up('worker', { join: await lab.invite(founder, '--role', 'worker') })
    await succeed(lab, submitter, 'j')
  })

  it('admin invites and revokes', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const admin = await lab.up('admin', { join: await lab.invite(founder, '--role', 'worker,submitter,admin') })
    await lab.up('worker', { join: await lab.invite(admin) })
    expect(await machineNames(lab, founder)).toEqual(['admin', 'founder', 'worker'])
    expect((await lab.cli(admin, ['revoke', 'worker'])).code).toBe(0)
    await lab.until('the worker is gone', async () => (await machineNames(lab, founder)).join() === 'admin,founder')
  })
})

describe('a revoked machine', () => {
  it('S1 L7: is cut off in the middle of its task, which runs elsewhere, and never comes back as what it was', async (t) => {
    const lab = await MeshLab.create(t)
    const traces = await Traces.create(lab)
    const founder = await lab.up('founder', { args: lendNone })
    const rogue = await lab.up('rogue', { join: founder })
    const task = await gated(traces)
    await submit(lab, founder, 'j', [{ id: 't', commandLine: task.commandLine }], patient)
    await lab.until('the task runs', async () => (await task.starts()) === 1)
    const { peer } = (await lab.json(rogue, ['status'])).node
    const revoked = await lab.cli(founder, ['revoke', 'rogue'])
    expect(revoked.stdout).toContain('rogue is no longer a member')
    await lab.up('worker', { join: founder })
    await lab.until('the task runs again', async () => (await task.starts()) === 2)
    expect(await machineNames(lab, founder)).toEqual(['founder', 'worker'])
    await task.open()
    await succeed(lab, founder, 'j')
    expect((await taskOf(lab, founder, 'j/t')).attempts.map(({ machine, end }) => `${machine === peer} ${end}`)).toEqual([
      'true lost',
      'false success',
    ])
    // With its old identity it is a stranger; with a new invitation, too, as long as it has that.
    await rogue.kill()
    const back = await lab.cli('rogue', ['up', '--port', '0', '--no-mdns', '--join', await lab.invite(founder)])
    expect(back.code).not.toBe(0)
    expect(back.stderr).toContain('This machine was removed from the mesh')
    await lab.up('rogue')
    expect((await lab.cli('rogue', ['status'])).code).toBe(3)
    expect((await lab.cli('rogue', ['run', 'echo in'])).code).not.toBe(0)
    await submit(
      lab,
      founder,
      'k',
      [1, 2, 3, 4].map((id) => ({ id: `${id}`, commandLine: 'true' })),
    )
    await succeed(lab, founder, 'k')
    const machines: { peer: string }[] = await lab.json(founder, ['machine', 'list'])
    expect(machines.map((machine) => machine.peer)).not.toContain(peer)
  })
})

describe('down', () => {
  it('with --drain waits for the running task and starts no other', async (t) => {
    const lab = await MeshLab.create(t)
    const traces = await Traces.create(lab)
    const founder = await lab.up('founder', { args: lendNone })
    const worker = await lab.up('worker', { join: founder, args: ['--lend-cpus', '1'] })
    const task = await gated(traces)
    await submit(lab, founder, 'j', [{ id: 'first', commandLine: task.commandLine }], patient)
    await lab.until('the task runs', async () => (await task.starts()) === 1)
    await lab.json(founder, ['task', 'create', 'j', '--json-file', '-'], { stdin: JSON.stringify([{ id: 'second', commandLine: 'true' }]) })
    const draining = lab.cli(worker, ['down', '--drain'])
    await lab.until('it drains', () => worker.log.includes('taking no new tasks'))
    expect((await lab.json(worker, ['status'])).node.runningTasks).toBe(1)
    await task.open()
    expect(await draining).toMatchObject({ code: 0, stdout: 'The node has stopped.\n' })
    expect((await worker.exited).code).toBe(0)
    expect(await taskOf(lab, founder, 'j/first')).toMatchObject({
      state: 'completed',
      executionInfo: { result: 'success', requeueCount: 0 },
    })
    expect(await task.starts()).toBe(1)
    expect((await taskOf(lab, founder, 'j/second')).state).toBe('active')
    await lab.up('worker')
    await succeed(lab, founder, 'j')
  })

  it('without it gives the running task up, and another machine runs it at once', async (t) => {
    const lab = await MeshLab.create(t)
    const traces = await Traces.create(lab)
    const founder = await lab.up('founder', { args: lendNone })
    const worker = await lab.up('worker', { join: founder })
    const task = await gated(traces)
    await submit(lab, founder, 'j', [{ id: 't', commandLine: task.commandLine }], patient)
    await lab.until('the task runs', async () => (await task.starts()) === 1)
    await worker.down()
    await lab.up('other', { join: founder })
    await lab.until('the task runs again', async () => (await task.starts()) === 2)
    await task.open()
    await succeed(lab, founder, 'j')
    expect((await taskOf(lab, founder, 'j/t')).executionInfo).toMatchObject({ retryCount: 0, requeueCount: 1 })
  })
})

describe('leave', () => {
  it('gives the membership up; with --purge the data directory is empty', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const worker = await lab.up('worker', { join: founder })
    const { peer } = (await lab.json(worker, ['status'])).node
    expect((await lab.cli(worker, ['run', 'echo some data'])).code).toBe(0)
    expect((await lab.cli(worker, ['leave'])).code).toBe(0)
    expect((await worker.exited).code).toBe(0)
    expect(await readdir(worker.dataDir)).not.toContain('identity')
    const newcomer = await lab.up('worker', { join: founder })
    expect((await lab.json(newcomer, ['status'])).node.peer).not.toBe(peer)
    expect((await lab.cli(newcomer, ['leave', '--purge'])).stdout).toContain('is empty')
    expect(await readdir(newcomer.dataDir)).toEqual([])
    await lab.until('it is not connected', async () => (await lab.json(founder, ['status'])).mesh.machines.connected === 1)
  })

  it('is not done by a founder in passing: the mesh ends with it', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    const refused = await lab.cli(founder, ['leave'])
    expect(refused.code).not.toBe(0)
    expect(refused.stderr).toContain('batchmesh leave --purge')
    expect((await lab.json(founder, ['status'])).node.pid).toBe(founder.pid)
    expect((await lab.cli(founder, ['leave', '--purge'])).code).toBe(0)
    expect(await readdir(founder.dataDir)).toEqual([])
  })
})

describe('L7: silence', () => {
  it('of a killed process is no partition, whichever address of the machine it came from', async (t) => {
    const lab = await MeshLab.create(t)
    const traces = await Traces.create(lab)
    // The founder is dialled at an address of the network, and told one of loopback.
    const founder = await lab.up('founder', { args: lendNone, network: ['--port', '0', '--no-mdns'] })
    const worker = await lab.up('worker', { join: founder })
    const task = await gated(traces)
    await submit(lab, founder, 'j', [{ id: 't', commandLine: task.commandLine }], patient)
    await lab.until('the task runs', async () => (await task.starts()) === 1)
    await lab.up('other', { join: founder })
    await worker.kill('SIGKILL')
    await lab.until('the task runs again', async () => (await task.starts()) === 2)
    await task.open()
    await succeed(lab, founder, 'j')
  })

  it.skipIf(noNetwork !== undefined)('of a cut cable that is mended within the window costs nothing: the task runs once', async (t) => {
    const lab = await MeshLab.create(t)
    const net = await Network.create(['a', 'b', 'c'], t)
    const traces = await Traces.create(lab)
    const at = (host: string) => ({ within: net.within(host), network: ['--port', '0', '--no-mdns'] })
    const founder = await lab.up('founder', { args: lendNone, ...at('a') })
    const worker = await lab.up('worker', { join: founder, ...at('b') })
    const [starts, gate, ended] = [await traces.file('starts'), await traces.file('gate'), await traces.file('ended')]
    const commandLine = sh(`echo s >> ${starts}; ${Traces.gate(gate)}; echo e >> ${ended}`)
    await submit(lab, founder, 'j', [{ id: 't', commandLine }], patient)
    await lab.until('the task runs', async () => (await traces.lines('starts')).length === 1)
    // A machine that would take the task if it were given up.
    await lab.up('other', { join: founder, ...at('c') })
    await net.cut('b')
    await traces.open('gate')
    await lab.until('the task has ended, unheard', async () => (await traces.lines('ended')).length === 1)
    await lab.until('the worker is missed', () => / is disconnected/.test(founder.log), { deadlineMs: 90_000 })
    expect((await taskOf(lab, founder, 'j/t')).state).toBe('running')
    await net.heal('b')
    await succeed(lab, founder, 'j')
    expect(await traces.lines('starts')).toEqual(['s'])
    expect(worker.log).toContain('the session with the coordinator has ended')
  })
})

describe('a node in the foreground', () => {
  it('writes JSON lines where no terminal is, and readable ones on a terminal', async (t) => {
    const lab = await MeshLab.create(t)
    const founder = await lab.up('founder')
    await lab.until('it has logged', () => founder.log.includes('\n'))
    for (const line of founder.log.trim().split('\n'))
      expect(JSON.parse(line)).toMatchObject({ msg: expect.any(String), time: expect.any(Number) })
    await founder.down()
    const version = await lab.spawn(['script', '--version']).exited.catch(() => undefined)
    if (version?.stdout.includes('util-linux') !== true) return t.skip('script of util-linux, which makes a terminal, is not here')
    const command = `${batchmesh} up --data ${lab.dataDir('founder')} --port 0 --listen 127.0.0.1 --no-mdns`
    const onTerminal = lab.spawn(['script', '-qec', `exec ${command}`, '/dev/null'])
    await lab.until('it is ready', () => onTerminal.stdout().includes('is back in mesh'))
    expect(onTerminal.stdout()).toMatch(/^\d\d:\d\d:\d\d the coordinator is ready/m)
    expect(onTerminal.stdout()).not.toMatch(/^\{/m)
    // Ctrl-C on the terminal ends it in good order.
    onTerminal.child.stdin!.write('\x03')
    expect((await onTerminal.exited).code).toBe(0)
  })

  it.each(['SIGTERM', 'SIGINT'] as const)('ends in good order at %s', async (signal) => {
    const lab = await MeshLab.create()
    try {
      const founder = await lab.up('founder')
      await founder.kill(signal)
      expect((await founder.exited).code).toBe(0)
      expect(await readdir(join(founder.dataDir, 'run'))).toEqual([])
    } finally {
      await lab.close()
    }
  })
})

describe('an ordinary user', () => {
  const uid = 54_321
  const asUser = ['setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups']

  it.skipIf(!isRoot)('has the data where the platform keeps it, and runs tasks in a sandbox', async (t) => {
    const lab = await MeshLab.create(t)
    if ((await lab.spawn([...asUser, 'test', '-r', batchmesh]).exited.catch(() => ({ code: 1 }))).code !== 0)
      return t.skip('this checkout is closed to other users')
    const home = join(lab.root, 'home')
    await mkdir(home)
    await chown(home, uid, uid)
    const cli = (args: string[], xdg?: string) =>
      lab.cli('-', args, { within: asUser, env: { HOME: home, XDG_DATA_HOME: xdg, BATCHMESH_DATA: undefined } })
    const up = ['up', '--detach', '--port', '0', '--listen', '127.0.0.1', '--no-mdns']
    for (const [xdg, dataDir] of [
      [undefined, join(home, '.local/share/batchmesh')],
      [join(home, 'x'), join(home, 'x/batchmesh')],
    ] as const) {
      const started = await cli(up, xdg)
      expect(started.code, started.stderr).toBe(0)
      const { node } = JSON.parse((await cli(['status', '-o', 'json'], xdg)).stdout)
      expect(node.dataDir).toBe(dataDir)
      expect(['bwrap', 'userns', 'process-group']).toContain(node.isolation)
      const ran = await cli(['run', `id -u; ls ${dataDir}/identity | wc -l`], xdg)
      expect(ran.code, ran.stderr).toBe(0)
      // Where there is a sandbox, the node's identity is not in it.
      if (node.isolation !== 'process-group') expect(ran.stdout.trim().split('\n').at(-1)).toBe('0')
      expect((await cli(['down'], xdg)).code).toBe(0)
    }
  })
})
