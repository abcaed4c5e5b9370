/** The node as a service: what is written down for systemd and launchd, and what the service manager is told. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { managerOf } from '../../src/cli/service/manager.ts'
import { launchdPlist, serviceName, systemdUnit, systemdWord } from '../../src/cli/service/unit.ts'
import { Lab } from './lab.ts'

let lab: Lab
let root: string
let units: string
beforeEach(() => {
  lab = new Lab()
  root = mkdtempSync(join(tmpdir(), 'batchmesh-service-'))
  units = join(root, 'config/systemd/user')
  Object.assign(lab.env, {
    HOME: root,
    XDG_CONFIG_HOME: join(root, 'config'),
    PATH: '/nowhere',
    BATCHMESH_DATA: join(root, 'my data'),
    BATCHMESH_CONFIG: '',
  })
})
afterEach(() => {
  lab.close()
  rmSync(root, { recursive: true, force: true })
})

/** A service manager that writes down what it is told, and fails at the word in `failAt`. */
function fakeSystemd(failAt = 'nothing'): () => string[] {
  mkdirSync(join(root, 'bin'))
  mkdirSync(join(root, 'run/systemd'), { recursive: true })
  const told = join(root, 'told')
  writeFileSync(
    join(root, 'bin/systemctl'),
    `#!/bin/sh\necho "$*" >> '${told}'\ncase "$*" in *${failAt}*) echo "no, not $*" >&2; exit 1 ;; esac\n`,
    { mode: 0o755 },
  )
  Object.assign(lab.env, { PATH: join(root, 'bin'), XDG_RUNTIME_DIR: join(root, 'run') })
  return () => readFileSync(told, 'utf8').trim().split('\n')
}

const name = () => serviceName(join(root, 'my data'), false)
const unitFile = () => join(units, `${name()}.service`)

describe('up --service', () => {
  it('founds, keeps the options, writes the unit, and says what to do where systemd does not run', async () => {
    const ran = await lab.run('up', '--service', '--user', '--port', '4999', '--label', 'room=lab', '--log-level', 'warn')
    expect(ran, ran.stderr).toMatchObject({ code: 0, stderr: '' })
    expect(ran.stdout).toMatch(
      `does not run here. Where it does, start it with:\n  systemctl --user daemon-reload\n  systemctl --user enable ${name()}.service\n`,
    )
    expect(JSON.parse(readFileSync(join(root, 'my data/settings.json'), 'utf8'))).toEqual({ port: 4999, labels: { room: 'lab' } })
    expect(existsSync(join(root, 'my data/identity/root-key'))).toBe(true)
    const unit = readFileSync(unitFile(), 'utf8')
    expect(unit).toMatch(/^ExecStart=\/\S+ \/\S+main\.ts up --log-level warn --data ".*\/my data"$/m)
    expect(unit, 'options are in the data directory alone').not.toMatch('4999')
  })

  it('tells systemd where it runs, and waits for the node', async () => {
    const told = fakeSystemd()
    const ran = await lab.run('up', '--service', '--user')
    expect(ran, ran.stderr).toMatchObject({ code: 0 })
    const unit = `${name()}.service`
    expect(told()).toEqual(['--user daemon-reload', `--user enable ${unit}`, `--user restart ${unit}`])
    expect(ran.stdout).toMatch(/runs, and starts with the machine\. Its log: journalctl --user -u batchmesh-/)
    expect(ran.stdout).toMatch('loginctl enable-linger')
    expect(ran.stdout).toMatch('To add a machine: batchmesh invite')
  })

  it('fails with what systemd said', async () => {
    fakeSystemd('enable')
    expect(await lab.run('up', '--service', '--user')).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/enable .*" failed: no, not --user enable/),
    })
  })

  it('that cannot join writes no unit', async () => {
    const ran = await lab.run('up', '--service', '--user', '--join', 'bm1_nonsense')
    expect(ran.code).toBe(2)
    expect(existsSync(unitFile())).toBe(false)
    expect(existsSync(join(root, 'my data/settings.json'))).toBe(false)
  })

  it('goes with neither --detach nor a --user of nothing', async () => {
    expect((await lab.run('up', '--service', '--detach')).stderr).toMatch('give --service or --detach')
    expect((await lab.run('up', '--user')).stderr).toMatch('it needs --service')
    expect((await lab.run('down', '--user')).stderr).toMatch('it needs --service')
  })
})

describe('down --service', () => {
  it('stops, disables and removes it, and leaves the data', async () => {
    const told = fakeSystemd()
    await lab.run('up', '--service', '--user')
    const ran = await lab.run('down', '--service', '--user')
    expect(ran).toMatchObject({ code: 0, stdout: expect.stringMatching('stopped and removed. The membership and the data stay') })
    expect(told().slice(3)).toEqual([`--user disable --now ${name()}.service`, '--user daemon-reload'])
    expect(existsSync(unitFile())).toBe(false)
    expect(existsSync(join(root, 'my data/identity/root-key'))).toBe(true)
  })

  it('says so where there is none', async () => {
    expect(await lab.run('down', '--service', '--user')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/There is no service batchmesh-.* is missing/),
    })
  })
})

describe('a unit', () => {
  const facts = { program: [process.execPath, '/opt/a place/main.js'], dataDir: '/srv/50% of $it', user: false }

  it.for([false, true])('for the user’s own systemd: %s, holds to what systemd knows', (user, t) => {
    const path = join(root, 'batchmesh-check.service')
    const text = systemdUnit({ ...facts, program: [process.execPath, import.meta.filename], user })
    expect(text).toMatch('KillMode=mixed\n')
    expect(text.includes('network-online.target')).toBe(!user)
    writeFileSync(path, text)
    const checked = spawnSync('systemd-analyze', ['verify', ...(user ? ['--user'] : []), path], {
      encoding: 'utf8',
      env: { ...process.env, XDG_RUNTIME_DIR: root },
    })
    if (checked.error !== undefined) return t.skip('there is no systemd-analyze here to check it with')
    expect(`${checked.stdout}${checked.stderr}`.split('\n').filter((line) => line.includes('batchmesh-check'))).toEqual([])
  })

  it('is quoted as systemd reads it', () => {
    expect(systemdUnit(facts)).toMatch(`"/opt/a place/main.js" up --data "/srv/50%% of $$it"`)
    expect(systemdWord('plain-word')).toBe('plain-word')
    expect(systemdWord('say "x" \\ y')).toBe('"say \\"x\\" \\\\ y"')
  })

  it('of another data directory has a name of its own', () => {
    expect(serviceName('/var/lib/batchmesh', true)).toBe('batchmesh')
    expect(serviceName('/srv/my data', false)).toBe('batchmesh-srv-my_20data')
    const alike = ['/srv/my data', '/srv/my-data', '/srv/my/data', '/srv/my_20data', '/srv/mü', '/srv/m_FC'].map((path) =>
      serviceName(path, false),
    )
    expect(new Set(alike).size).toBe(alike.length)
    expect(alike.join('')).toMatch(/^[\w.-]+$/)
    expect(managerOf('/srv/x', false, { HOME: '/root' }, 'linux').path).toBe('/etc/systemd/system/batchmesh-srv-x.service')
  })
})

describe('a property list of launchd', () => {
  const text = launchdPlist({
    program: ['/usr/bin/node', '/opt/a & b/<main>.js'],
    dataDir: '/Users/me/data',
    user: true,
    label: 'batchmesh.node',
  })

  it('is well formed, with keys and values in turn', () => {
    const open: string[] = []
    for (const [, closing, tag, empty] of text.replace(/<[?!][^>]*>/g, '').matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/gi)) {
      if (empty === '/') continue
      if (closing === '/') expect(open.pop()).toBe(tag)
      else open.push(tag!)
    }
    expect(open).toEqual([])
    expect(text).toMatch('<string>/opt/a &amp; b/&lt;main&gt;.js</string>')
    const keys = [...text.matchAll(/<key>([^<]+)<\/key>\s*<(\w+)/g)].map(([, key, value]) => `${key}:${value}`)
    expect(keys).toEqual([
      'Label:string',
      'ProgramArguments:array',
      'RunAtLoad:true',
      'KeepAlive:dict',
      'SuccessfulExit:false',
      'ThrottleInterval:integer',
      'ExitTimeOut:integer',
      'SoftResourceLimits:dict',
      'NumberOfFiles:integer',
      'StandardErrorPath:string',
      'StandardOutPath:string',
    ])
  })

  it('lies where launchd looks, and other systems are refused', () => {
    expect(managerOf('/srv/x', true, { HOME: '/Users/me' }, 'darwin').path).toBe(
      '/Users/me/Library/LaunchAgents/batchmesh-srv-x.node.plist',
    )
    expect(() => managerOf('/srv/x', true, { HOME: '/' }, 'win32')).toThrow('this is win32')
  })
})
