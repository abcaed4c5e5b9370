/** What `batchmesh doctor` makes of what it sees, and that it sees this machine. */
import { chmodSync, mkdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { judgeClock } from '../../src/cli/doctor/clock.ts'
import { checkData } from '../../src/cli/doctor/data.ts'
import { firewallAdvice } from '../../src/cli/doctor/firewall.ts'
import { judgeLimits, judgeTier } from '../../src/cli/doctor/isolation.ts'
import { checkLimits, checkNodeJs } from '../../src/cli/doctor/machine.ts'
import { query } from '../../src/cli/doctor/mdns.ts'
import { checkNode, checkVersions } from '../../src/cli/doctor/node.ts'
import { checkPort, outwardAddresses } from '../../src/cli/doctor/port.ts'
import { version } from '../../src/version.ts'
import { laptop } from './fake-local.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

describe('the firewall line', () => {
  it.each([
    ['ufw', { ufw: 'Status: active\n\n22/tcp  ALLOW  Anywhere\n' }, false, ['ufw allow 4747/tcp', 'ufw allow 5353/udp']],
    ['ufw', { ufw: 'Status: active\n\n4747/tcp  ALLOW  Anywhere\n' }, true, ['ufw allow 4747/tcp', 'ufw allow 5353/udp']],
    ['ufw', { ufwEnabled: true }, undefined, ['ufw allow 4747/tcp', 'ufw allow 5353/udp']],
    [
      'firewalld',
      { firewalld: true, firewalldAllows: '80/tcp\n' },
      false,
      ['firewall-cmd --permanent --add-port=4747/tcp --add-service=mdns', 'firewall-cmd --reload'],
    ],
    [
      'nftables',
      {
        nft: 'table inet mine {\n\tchain in {\n\t\ttype filter hook input priority filter; policy drop;\n\t\ttcp dport 22 accept\n\t}\n}\n',
      },
      false,
      ['nft insert rule inet mine in tcp dport 4747 accept', 'nft insert rule inet mine in udp dport 5353 accept'],
    ],
    [
      'nftables',
      {
        nft: 'table ip f {\n\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n\t\ttcp dport { 22, 4747 } accept\n\t\treject with icmp type port-unreachable\n\t}\n}\n',
      },
      true,
      ['nft insert rule ip f input tcp dport 4747 accept', 'nft insert rule ip f input udp dport 5353 accept'],
    ],
    [
      'iptables',
      { iptables: '-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n' },
      false,
      ['iptables -I INPUT -p tcp --dport 4747 -j ACCEPT', 'iptables -I INPUT -p udp --dport 5353 -j ACCEPT'],
    ],
  ])('of %s is for what the machine has', (tool, facts, passes, lines) => {
    expect(firewallAdvice(facts, 4747, true)).toEqual({ tool, passes, lines })
  })

  it('is not given where nothing turns anybody away, and has no mDNS where that is off', () => {
    const open =
      'table inet f {\n\tchain in {\n\t\ttype filter hook input priority 0; policy accept;\n\t}\n\tchain out {\n\t\tpolicy drop;\n\t}\n}\n'
    expect(
      firewallAdvice(
        { ufw: 'Status: inactive', nft: open.replace('\tchain out {\n\t\tpolicy drop;\n\t}\n', ''), iptables: '-P INPUT ACCEPT' },
        1,
        true,
      ),
    ).toBeUndefined()
    expect(firewallAdvice({ ufwEnabled: true }, 5000, false)?.lines).toEqual(['ufw allow 5000/tcp'])
  })
})

describe('the clock', () => {
  it.each([
    [undefined, true, 'ok'],
    [undefined, undefined, 'ok'],
    [undefined, false, 'warning'],
    [{ skewMs: 900, withinMs: 10 }, true, 'ok'],
    [{ skewMs: -6000, withinMs: 10 }, true, 'warning'],
    [{ skewMs: 6000, withinMs: 3000 }, undefined, 'ok'],
    [{ skewMs: 2 * 3_600_000, withinMs: 10 }, true, 'problem'],
  ] as const)('off by %o, in step: %s, is %s', (skew, synced, state) => {
    expect(judgeClock(skew, synced).state).toBe(state)
  })

  it('is said to be ahead or behind', () => {
    expect(judgeClock({ skewMs: 60_000, withinMs: 1 }, true).found).toBe('1m00s behind the coordinator’s')
    expect(judgeClock({ skewMs: -60_000, withinMs: 1 }, true).found).toBe('1m00s ahead of the coordinator’s')
  })
})

describe('isolation', () => {
  const missing = [{ tier: 'bwrap' as const, why: 'bwrap: it was not found' }]

  it('names the package and the setting that a better tier needs', () => {
    const facts = {
      tier: 'process-group' as const,
      missing,
      isRoot: false,
      has: (tool: string) => tool !== 'bwrap',
      forbiddenBy: 'kernel.x=1',
    }
    expect(judgeTier(facts)).toMatchObject({ state: 'warning', todo: 'apt install bubblewrap\nsysctl -w kernel.x=1' })
    expect(judgeTier({ ...facts, isRoot: true, has: () => false }).todo).toBe('apt install util-linux')
  })

  it('is a problem only where no tier works', () => {
    expect(judgeTier({ tier: 'bwrap', missing: [], isRoot: false, has: () => true })).toEqual({
      name: 'isolation',
      state: 'ok',
      found: 'bwrap',
    })
    expect(judgeTier({ tier: undefined, missing, isRoot: false, has: () => true }).state).toBe('problem')
  })
})

describe('limits of tasks', () => {
  it('are fine where both hold, else a warning that says why and what to do', () => {
    const by = 'control groups, version 2'
    expect(judgeLimits({ memory: true, processes: true, by, why: undefined }, true)).toMatchObject({
      state: 'ok',
      found: expect.stringContaining(by),
    })
    const none = judgeLimits({ memory: false, processes: false, by: undefined, why: 'EACCES' }, false)
    expect(none).toMatchObject({ state: 'warning', found: 'neither memory nor processes of a task are bounded: EACCES' })
    expect(none.todo).toContain('systemd-run --user --scope')
    const counted = judgeLimits({ memory: false, processes: true, by: 'the users of tasks', why: undefined }, true)
    expect(counted.found).toBe('only processes of a task are bounded (the users of tasks)')
  })
})

describe('the port', () => {
  it('that another program holds is a problem; one that the node holds, or nobody, is not', async () => {
    const server = createServer()
    await new Promise<void>((resolve) => server.listen(0, resolve))
    const { port } = server.address() as { port: number }
    expect(await checkPort(port, [])).toMatchObject({ state: 'problem', found: `${port} is taken by another program` })
    if (outwardAddresses().length > 0) expect((await checkPort(port, [`/ip4/0.0.0.0/tcp/${port}/p2p/x`])).state).toBe('ok')
    expect(await checkPort(port, [`/ip4/127.0.0.1/tcp/${port}/p2p/x`])).toMatchObject({
      state: 'warning',
      found: expect.stringMatching('loopback only'),
    })
    await new Promise((resolve) => server.close(resolve))
    expect((await checkPort(port, [])).state).not.toBe('problem')
  })
})

describe('the data directory', () => {
  it('may be missing, and is then not made', async () => {
    const checks = await checkData(join(lab.cwd, 'new', 'deep'))
    expect(checks[0]).toMatchObject({ state: 'ok', found: expect.stringMatching('will be made') })
    expect(checks.map(({ name }) => name)).toContain('disk sync')
    expect(lab.list('.')).toEqual([])
  })

  it.skipIf(process.getuid?.() !== 0)(
    'that task users cannot get to is a problem, with the line that opens the way (skipped for ordinary users: only root’s tasks have users of their own)',
    async () => {
      mkdirSync(join(lab.cwd, 'shut', 'data'), { recursive: true })
      chmodSync(lab.cwd, 0o711)
      chmodSync(join(lab.cwd, 'shut'), 0o700)
      const [check] = (await checkData(join(lab.cwd, 'shut', 'data'))).filter(({ name }) => name === 'task users')
      expect(check).toMatchObject({ state: 'problem', todo: `chmod o+x ${join(lab.cwd, 'shut')}` })
    },
  )

  it('that is a file, or below one, is a problem', async () => {
    lab.files({ file: '' })
    for (const path of ['file', 'file/data'])
      expect(await checkData(join(lab.cwd, path))).toMatchObject([{ state: 'problem', found: expect.stringMatching(/\/file is a file$/) }])
  })

  it.skipIf(process.getuid?.() === 0)('that cannot be written is a problem (skipped for root, who writes everywhere)', async () => {
    expect((await checkData('/proc/none'))[0]!.state).toBe('problem')
  })
})

it('an old Node.js is a problem, few open files are a warning', () => {
  expect(checkNodeJs('20.19.0').state).toBe('problem')
  expect(checkNodeJs('22.12.0').state).toBe('ok')
  expect(checkLimits('Max open files            1024                 1024                 files').state).toBe('warning')
  expect(checkLimits('Max open files            1024                 1048576              files').state).toBe('ok')
})

it('the mDNS query is a DNS question for a PTR record', () => {
  expect(Buffer.from(query('_x')).toString('latin1')).toBe('\0\0\0\0\0\x01\0\0\0\0\0\0\x02_x\x04_udp\x05local\0\0\x0c\0\x01')
})

describe('the node', () => {
  const hour = 3_600_000
  const node = { ...laptop, startTime: 0, certificateExpires: 24 * hour }
  const states = (facts: Parameters<typeof checkNode>[0], now = hour) => checkNode(facts, now).map(({ name, state }) => `${name} ${state}`)

  it('that is connected and renewed is well', () => {
    expect(states({ node })).toEqual(['node ok', 'coordinator ok', 'certificate ok'])
    expect(states({})).toEqual(['node ok'])
  })

  it('without its coordinator, or with an expired certificate, has a problem', () => {
    expect(states({ node, trouble: 'away' })).toContain('coordinator problem')
    expect(states({ node: { ...node, connected: false } })).toContain('coordinator problem')
    expect(states({ node }, 21 * hour)).toContain('certificate warning')
    expect(states({ node }, 25 * hour)).toContain('certificate problem')
    expect(states({ nodeTrouble: 'it hangs' })).toEqual(['node problem'])
    expect(states({ node: { ...node, heartbeatLagMs: 5000 } })).toContain('load warning')
  })

  it('of another version than its program is to be restarted', () => {
    expect(checkVersions({ node: { ...node, version: '0.1.0' } })).toMatchObject({
      state: 'warning',
      todo: 'batchmesh down, then batchmesh up',
    })
    expect(checkVersions({ node: { ...node, version } }).state).toBe('ok')
  })
})

describe('batchmesh doctor', () => {
  it('checks this machine whole without a node, and says what it found with exit code 0 or 1', async () => {
    lab.mesh.down = new MeshError('Unreachable')
    lab.env.BATCHMESH_DATA = join(lab.cwd, 'data')
    const ran = await lab.run('doctor', '-o', 'json')
    const { checks, problems } = JSON.parse(ran.stdout) as { checks: { name: string; state: string }[]; problems: number }
    expect(ran.code).toBe(problems > 0 ? 1 : 0)
    for (const name of [
      'Node.js',
      'data directory',
      'disk',
      'port',
      'firewall',
      'local network',
      'clock',
      'isolation',
      'limits of tasks',
      'machine',
      'tools',
      'open files',
      'node',
      'versions',
    ])
      expect(checks.map((check) => check.name)).toContain(name)
    expect(lab.list('.'), 'it leaves nothing').toEqual([])
  })

  it.skipIf(process.getuid?.() === 0)(
    'says once that the data directory belongs to another user, not what it cannot see in it (skipped for root, who sees it)',
    async () => {
      lab.env.BATCHMESH_DATA = '/proc/1/fd/data'
      lab.mesh.down = new MeshError('InsufficientPermissions', 'The node belongs to another user.')
      const ran = await lab.run('doctor')
      expect(ran.code).toBe(1)
      expect(ran.stdout.match(/^PROBLEM .*/gm)).toEqual([
        expect.stringMatching(/^PROBLEM {2}data directory +\/proc\/1\/fd\/data cannot be made/),
      ])
    },
  )

  it('ends with 1 and says what to do when the node has lost its coordinator', async () => {
    lab.mesh.status = { ...laptop, connected: false, certificateExpires: Date.now() + 24 * 3_600_000 }
    lab.env.BATCHMESH_DATA = join(lab.cwd, 'data')
    lab.mesh.onCall = (name) => {
      if (name === 'meshStatus') throw new MeshError('NoCoordinator', 'The coordinator is away.')
    }
    const ran = await lab.run('doctor')
    expect(ran.code).toBe(1)
    expect(ran.stdout).toMatch(/^PROBLEM {2}coordinator +The coordinator is away\.\n +> Is the machine that founded the mesh up/m)
    expect(ran.stdout).toMatch(/\n1 problem, \d+ warnings?\.\n$/)
  })

  it('measures the coordinator’s clock against this one', async () => {
    lab.mesh.meshStatus = { ...lab.mesh.meshStatus, time: Date.now() - 600_000 }
    lab.env.BATCHMESH_DATA = join(lab.cwd, 'data')
    expect((await lab.run('doctor')).stdout).toMatch(/^WARNING {2}clock +10m00s ahead of the coordinator’s$/m)
  })
})
