import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { applySources, settableOptions } from '../../src/cli/config-apply.ts'
import { settable } from '../../src/cli/config-names.ts'
import { readSources } from '../../src/cli/config-sources.ts'
import { Context } from '../../src/cli/context.ts'
import { configFiles, pathInFile } from '../../src/config.ts'
import { writeSettings } from '../../src/mesh/settings.ts'
import { Lab } from './lab.ts'

let lab: Lab
let data = ''
beforeEach(() => {
  lab = new Lab()
  data = mkdtempSync(join(tmpdir(), 'batchmesh-config-'))
  lab.env = { ...lab.env, BATCHMESH_DATA: data, BATCHMESH_CONFIG: join(lab.cwd, 'config.toml') }
  file('')
})
afterEach(() => {
  lab.close()
  rmSync(data, { recursive: true, force: true })
})

function file(text: string, name = 'config.toml'): void {
  writeFileSync(join(lab.cwd, name), text)
}

/** What `config show` says of a setting: value and source. */
async function shown(setting: string, ...more: string[]): Promise<unknown[]> {
  const ran = await lab.run('config', 'show', '-o', 'json', ...more)
  expect(ran).toMatchObject({ code: 0 })
  const rows = JSON.parse(ran.stdout) as { setting: string; value: unknown; source: string }[]
  return rows.filter((row) => row.setting === setting).map(({ value, source }) => [value, source])
}

const sourcesOf = async (env: Record<string, string>) => {
  const at = (name: string) => join(lab.cwd, name)
  return readSources(env, [
    { path: at('user.toml'), scope: 'user', isNamed: false },
    { path: at('system.toml'), scope: 'system', isNamed: false },
  ])
}

describe('where a setting comes from', () => {
  it('a variable before the user’s file before the system’s, a table of the command before the top of its file', async () => {
    file('pool-id = "user"\n[up]\nport = 1\n', 'user.toml')
    file('pool-id = "system"\nretries = 3\n[run]\npool-id = "system run"\n', 'system.toml')
    const sources = await sourcesOf({ BATCHMESH_PORT: '2', BATCHMESH_RETENTION: '' })
    const found = (command: string, name: string) => sources.find(command, name)?.value
    expect(found('up', 'port')).toBe('2')
    expect(found('run', 'pool-id')).toBe('user')
    expect(found('run', 'retries')).toBe(3)
    expect(found('run', 'retention')).toBeUndefined()
    file('', 'user.toml')
    expect((await sourcesOf({})).find('run', 'pool-id')?.value).toBe('system run')
    expect((await sourcesOf({})).find('job create', 'pool-id')?.value).toBe('system')
  })

  it('an option of the command line wins over all of them, and an earlier up is asked last', async () => {
    await writeSettings(data, { port: 4000, name: 'kept', labels: { room: 'lab' } })
    expect(await shown('port')).toEqual([[['4000'], 'earlier up']])
    file('output = "json"\n[up]\nport = 4001\n')
    expect(await shown('port')).toEqual([['4001', 'user file']])
    lab.env.BATCHMESH_PORT = '4002'
    expect(await shown('port')).toEqual([['4002', 'variable']])
    expect(await shown('label')).toEqual([[['room=lab'], 'earlier up']])
    expect(await shown('output')).toEqual([['json', 'option']])
    expect((await lab.run('config', 'show')).stdout).toMatch(/^\[/)
    expect((await lab.run('config', 'show', '-o', 'tsv')).stdout).toMatch(/^setting\t/)
  })

  it('the platform’s places, or the one that BATCHMESH_CONFIG names; empty, it is none', () => {
    expect(configFiles({}).map(({ scope, isNamed }) => [scope, isNamed])).toEqual([
      ['user', false],
      ['system', false],
    ])
    expect(configFiles({ BATCHMESH_CONFIG: '/a/b.toml' })[0]).toEqual({ path: '/a/b.toml', scope: 'user', isNamed: true })
    expect(configFiles({ BATCHMESH_CONFIG: '' })).toEqual([])
    expect(pathInFile('x/y', '/etc/batchmesh/config.toml')).toBe('/etc/batchmesh/x/y')
    expect(pathInFile('~/y', '/etc/batchmesh/config.toml')).toMatch(/^\/.*\/y$/)
  })
})

describe('what a setting does', () => {
  it('is what the option would have done', async () => {
    file('pool-id = "big"\noutput = "json"\n[job.create]\npriority = 7\n')
    const ran = await lab.run('job', 'create', 'j')
    expect(JSON.parse(ran.stdout)).toMatchObject({ id: 'j', poolId: 'big', priority: 7 })
    expect(JSON.parse((await lab.run('job', 'create', 'k', '--priority', '8')).stdout)).toMatchObject({ priority: 8 })
  })

  it('is not mixed into a description in a file', async () => {
    file('[job.create]\npriority = 7\n')
    file('{"id": "j"}', 'job.json')
    await lab.run('job', 'create', '--json-file', 'job.json')
    expect(lab.mesh.jobs.get('j')?.spec.priority).toBe(0)
  })

  it('comes as a list, a table or a flag where the option takes such', async () => {
    file('[up]\nlisten = ["a", "b"]\nmdns = false\nlabel = { room = "lab", disk = 2 }\nbootstrap = "one"\nlend-cpus = 1.5\n', 'user.toml')
    const context = new Context({ env: {} } as never, [], async () => {
      throw new Error('not asked for')
    })
    const { register } = await import('../../src/cli/node/up.ts')
    const { Command } = await import('commander')
    const program = new Command('batchmesh')
    register(program, context)
    const up = program.commands[0]!
    applySources(up, await sourcesOf({ BATCHMESH_ANNOUNCE: 'x, y' }))
    expect(up.opts()).toMatchObject({
      listen: ['a', 'b'],
      mdns: false,
      label: ['room=lab', 'disk=2'],
      bootstrap: ['one'],
      announce: ['x', 'y'],
      lendCpus: '1.5',
    })
  })
})

describe('what is wrong with a file is said with its line:', () => {
  it.each([
    ['port = 1\n[up\n', /config\.toml, line 2: this is not TOML/],
    ['[up]\n\nprot = 1\n', /up\.prot in \S*config\.toml, line 3: there is no such setting in \[up\]\. Known here: port, listen/],
    ['colour = true\n', /colour in \S*config\.toml, line 1: there is no such setting\. Known here: data, output.* Tables: \[up\], \[run\]/],
    ['[job]\npool-id = "x"\n', /job\.pool-id in \S*, line 2: .*Tables: \[job\.create\]/],
    ['[task]\ncreate = 3\n', /task\.create in \S*, line 2: there is no such setting/],
    ['up = 3\n', /up in \S*, line 1/],
    ['join = "token"\n', /join in \S*, line 1: a secret is not kept.*BATCHMESH_JOIN/],
  ])('%j', async (text, why) => {
    file(text)
    expect(await lab.run('job', 'list')).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(why) })
  })

  it.each([
    ['output = "yaml"\n', ['job', 'list'], /output in \S*, line 1 is yaml: Allowed choices are table, json, tsv/],
    ['[run]\nquiet = "yes"\n', ['run', 'true'], /run\.quiet in \S*, line 2 is yes: it is true or false/],
    ['retries = 1979-05-27\n', ['run', 'true'], /retries in \S*, line 1 is .*: it is a text or a number/],
    ['retries = "many"\n', ['run', 'true'], /--retries many: .* It was set by retries in \S*, line 1/],
    ['memory = "lots"\n', ['run', 'true'], /lots.* It was set by memory in \S*, line 1/],
    ['env = [1.5, true]\n', ['run', 'true'], /env in \S*, line 1 is .*: it is a table of texts/],
  ])('%j with %j', async (text, words, why) => {
    file(text)
    expect(await lab.run(...words)).toMatchObject({ code: 2, stderr: expect.stringMatching(why) })
    expect(lab.mesh.jobs.size).toBe(0)
  })

  it('a variable is named too', async () => {
    lab.env.BATCHMESH_PRIORITY = '5000'
    expect(await lab.run('job', 'create', 'j')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('It was set by BATCHMESH_PRIORITY.'),
    })
  })

  it('a file that BATCHMESH_CONFIG names must be there', async () => {
    lab.env.BATCHMESH_CONFIG = '/nowhere/config.toml'
    expect(await lab.run('job', 'list')).toMatchObject({ code: 2, stderr: expect.stringContaining('cannot be read') })
  })
})

describe('config show', () => {
  it('shows no secret', async () => {
    lab.env.BATCHMESH_JOIN = 'bm-secret-token'
    lab.env.BATCHMESH_ENV = 'KEY=hidden-value'
    for (const more of [[], ['--all'], ['-o', 'json', '--all']]) {
      const { stdout, stderr } = await lab.run('config', 'show', ...more)
      expect(stdout + stderr).toContain('(secret)')
      expect(stdout + stderr).toContain('KEY=')
      expect(stdout + stderr).not.toMatch(/bm-secret|hidden-value/)
    }
  })

  it('says for each setting the commands that it holds for, and no others', async () => {
    file('pool-id = "p"\n[run]\nretries = 2\n')
    const rows = JSON.parse((await lab.run('config', 'show', '-o', 'json')).stdout) as { setting: string; commands: string[] }[]
    const commandsOf = (setting: string) => rows.find((row) => row.setting === setting)?.commands
    expect(commandsOf('pool-id')).toEqual(['run', 'mpi run', 'job create'])
    expect(commandsOf('retries')).toEqual(['run'])
  })

  it('shows defaults, and with --all each setting that there is', async () => {
    expect((await lab.run('config', 'show')).stdout).toMatch(/^port +4747 +up +default \(BATCHMESH_PORT\)$/m)
    expect(await shown('retries')).toEqual([])
    expect(await shown('retries', '--all')).toEqual([[undefined, 'default']])
  })

  it('knows every name that is listed as one that can be set', async () => {
    const rows = JSON.parse((await lab.run('config', 'show', '--all', '-o', 'json')).stdout) as { setting: string; commands: string[] }[]
    for (const [command, names] of Object.entries(settable))
      for (const name of names)
        expect(
          rows.some(({ setting, commands }) => setting === name && (command === '' ? commands.length === 0 : commands.includes(command))),
          `${command} --${name}`,
        ).toBe(true)
  })
})

it('what can be set never includes an option that asks for something once', async () => {
  const context = new Context({ env: {} } as never, [], async () => {
    throw new Error('not asked for')
  })
  const { Command } = await import('commander')
  const { register } = await import('../../src/cli/run/command.ts')
  const program = new Command('batchmesh')
  register(program, context)
  const names = settableOptions(program.commands[0]!).map(({ long }) => long)
  for (const never of ['--inputs', '--job-id', '--dry-run', '--detach', '--outputs']) expect(names).not.toContain(never)
})
