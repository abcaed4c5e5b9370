import { spawnSync } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

/** How the last of these words is completed: `mode` and then the values. */
async function offered(...words: string[]): Promise<string[]> {
  const ran = await lab.run('__complete', String(words.length - 1), ...words)
  expect(ran).toMatchObject({ code: 0, stderr: '' })
  return ran.stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t')[0]!)
}

async function submitJobs(): Promise<void> {
  for (const id of ['render', 'rest', 'other']) await lab.run('job', 'create', id)
  for (const id of ['T1', 't2']) await lab.run('task', 'create', `render/${id}`, '--command-line', 'true')
}

describe('what is offered', () => {
  it('is commands, below them their own', async () => {
    expect(await offered('j')).toEqual(['words', 'job'])
    expect(await offered('')).toEqual(expect.arrayContaining(['words', 'up', 'run', 'completion', 'help']))
    expect(await offered('--data', '/x', 'job', 's')).toEqual(['words', 'show', 'stop'])
    expect(await offered('task', 'file', 'd')).toEqual(['words', 'download'])
    expect(await offered('__')).toEqual(['words'])
  })

  it('is options of the command and of all commands, with what they are for', async () => {
    expect(await offered('run', '--red')).toEqual(['words', '--reduce', '--reduce-outputs'])
    expect(await offered('job', 'list', '--que')).toEqual(['words', '--query'])
    expect((await lab.run('__complete', '1', 'up', '--lend-c')).stdout).toBe(
      'words\n--lend-cpus\tcores to lend, default all; 0: runs no tasks\n',
    )
  })

  it('is the choices of an option, in the spelling that was begun', async () => {
    expect(await offered('job', 'list', '-o', '')).toEqual(['words', 'table', 'json', 'tsv'])
    expect(await offered('job', 'list', '--output', '=', 'j')).toEqual(['words', 'json'])
    expect(await offered('job', 'list', '--output', '=')).toEqual(['words', 'table', 'json', 'tsv'])
    expect(await offered('job', 'list', '--output=j')).toEqual(['words', '--output=json'])
    expect(await offered('completion', '')).toEqual(['words', 'bash', 'zsh', 'fish', 'powershell'])
  })

  it('is nothing for a value that only the user knows, and files for a path', async () => {
    expect(await offered('run', '--retries', '')).toEqual(['words'])
    expect(await offered('run', 'true', '--to', '')).toEqual(['files'])
    expect(await offered('run', '--try', '--red')).toEqual(['words', '--reduce', '--reduce-outputs'])
    expect(await offered('run', '--try', '--to', '')).toEqual(['files'])
    expect(await offered('run', '--', '')).toEqual(['files'])
    expect(await offered('blob', 'put', 'a', '')).toEqual(['files'])
    expect(await offered('job', 'create', '')).toEqual(['words'])
  })

  it('knows programs and scripts as files, and what is for them', async () => {
    lab.mesh.extra.listPools = () => ({ items: [] })
    expect(await offered('mpi', 'r')).toEqual(['words', 'run'])
    expect(await offered('mpi', 'run', '--mpi', '')).toEqual(['words', 'openmpi', 'mpich'])
    expect(await offered('mpi', 'run', '-n', '4', '--', '')).toEqual(['files'])
    expect(await offered('submit', '')).toEqual(['files'])
    expect(await offered('submit', '--ntasks-')).toEqual(['words', '--ntasks-per-node'])
    await offered('submit', '--partition', '')
    expect(lab.mesh.asked).toContain('listPools')
  })

  it('is jobs, the newest first, and their tasks, whatever their case', async () => {
    await submitJobs()
    expect(await offered('job', 'show', 're')).toEqual(['words', 'rest', 'render'])
    expect(await offered('job', 'show', 'render', '')).toEqual(['words'])
    expect(await offered('events', '--job-id', 'o')).toEqual(['words', 'other'])
    expect(await offered('task', 'show', 're')).toEqual(['nospace', 'rest/', 'render/'])
    expect(await offered('task', 'create', 'o')).toEqual(['nospace', 'other/'])
    expect(await offered('task', 'show', 'render/')).toEqual(['words', 'render/T1', 'render/t2'])
    expect(await offered('task', 'show', 'render/T')).toEqual(['words', 'render/T1'])
  })

  it('asks for the tasks that begin as typed, not for all', async () => {
    let asked: unknown
    lab.mesh.extra.listTasks = (request) => {
      asked = request
      return { items: [] }
    }
    await offered('task', 'show', 'render/Frame-2')
    expect(asked).toMatchObject({ jobId: 'render', after: 'frame-1\uffff', limit: 200 })
  })

  it('is no name of a machine that a shell would take apart, but its peer id', async () => {
    const none = { cores: 0, memoryMiB: 0, gpus: 0 }
    const about = { class: 'dedicated' as const, capacity: none, reserved: none, diskFreeMiB: 0, labels: {}, os: '', arch: '', version: '' }
    const more = {
      isolation: 'bwrap' as const,
      addresses: [],
      nodeRootDir: '',
      roles: [],
      runningTasks: 0,
      lastSeen: 0,
      isCoordinator: false,
    }
    const machine = (name: string, peer: string) => ({ ...about, ...more, name, peer, connected: true })
    lab.mesh.extra.listMachines = () => ({ items: [machine('$(reboot)', 'peer-number-1'), machine('good-1', 'peer-number-2')] })
    expect(await offered('machine', 'show', '')).toEqual(['words', 'peer-number-1', 'good-1'])
  })

  it('is nothing when no node answers, and nothing is said of it', async () => {
    lab.mesh.crash()
    expect(await offered('job', 'show', '')).toEqual(['words'])
    expect(await lab.run('__complete', 'x', 'job')).toMatchObject({ code: 0, stdout: 'words\n', stderr: '' })
  })
})

describe('the script for bash', () => {
  /** Runs the script in a real bash, as it would when Tab is pressed at the end of these words. */
  function pressTab(...words: string[]): { replies: string[]; status: number | null } {
    const main = join(import.meta.dirname, '../../src/cli/main.ts')
    const program = join(lab.cwd, 'batchmesh')
    writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`, { mode: 0o755 })
    const drive = `
      source <('${program}' completion bash) || exit 9
      [[ $(complete -p batchmesh) == *'-F _batchmesh'* ]] || exit 8
      COMP_WORDS=('${program}' "$@"); COMP_CWORD=$#
      _batchmesh
      printf '%s\\n' "\${COMPREPLY[@]}"`
    const env = { ...process.env, BATCHMESH_CONFIG: '', BATCHMESH_DATA: lab.cwd }
    const ran = spawnSync('bash', ['-c', drive, 'bash', ...words], { cwd: lab.cwd, env, encoding: 'utf8' })
    return { replies: ran.stdout.trimEnd().split('\n'), status: ran.status }
  }

  it('completes commands and values in a real bash', () => {
    expect(pressTab('comp')).toEqual({ status: 0, replies: ['completion'] })
    expect(pressTab('job', 'list', '--output', '=', 't').replies).toEqual(['table', 'tsv'])
    expect(pressTab('job', 'show', '').replies).toEqual([''])
  })

  it('runs nothing of what was typed', () => {
    pressTab('run', '$(touch one)', '`touch two`', '>', 'three', ';', 'touch four', '')
    for (const name of ['one', 'two', 'three', 'four']) expect(existsSync(join(lab.cwd, name)), name).toBe(false)
  })
})
