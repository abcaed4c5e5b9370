/** Ctrl-C during `batchmesh run`, without a terminal and on one, and what a terminal shows. */
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest'
import { batchmesh, MeshLab, type NodeProcess, type Running } from './support/mesh-lab.ts'

let lab: MeshLab
let founder: NodeProcess
let dirs = 0

beforeAll(async () => {
  lab = await MeshLab.create()
  founder = await lab.up('founder', { args: ['--lend-cpus', '2'] })
})
afterAll(() => lab?.close())

/** A directory of its own for one test, which tasks may pass through. */
async function directory(): Promise<string> {
  onTestFailed(() => console.error(lab.logs()))
  dirs += 1
  const path = join(lab.root, `dir-${dirs}`)
  await mkdir(path)
  await chmod(path, 0o755)
  return path
}

/** Shell text that waits until a test has opened the gate. */
const waitFor = (gate: string) => `until [ -e '${gate}' ]; do sleep 0.05; done`

/** Resolves when a task of the job runs; rejects when the command has ended before. */
async function whenRunning(command: Running, job: string): Promise<void> {
  const ended = command.exited.then(({ code, stdout, stderr }) => {
    throw new Error(`the command ended with ${code}: ${stdout}${stderr}`)
  })
  const running = lab.until('a task runs', async () => (await lab.json(founder, ['job', 'show', job])).counts.running > 0)
  // When one has won, the other one's failure is of no interest.
  ended.catch(() => undefined)
  running.catch(() => undefined)
  await Promise.race([ended, running])
}

describe('an interruption', () => {
  it('without a terminal detaches, says the job, and job wait brings the results', async () => {
    const cwd = await directory()
    const gate = join(cwd, 'gate')
    const command = `${waitFor(gate)}; echo {index} > {index}.txt`
    const running = lab.spawn([batchmesh, 'run', command, '--array', '0-2', '--outputs', '*.txt', '--to', 'out', '--job-id', 'left'], {
      cwd,
      env: { BATCHMESH_DATA: founder.dataDir },
    })
    await whenRunning(running, 'left')
    running.child.kill('SIGINT')
    const { code, stderr } = await running.exited
    expect(code).toBe(130)
    expect(stderr).toContain('detached; job left goes on')
    expect(stderr).toContain('batchmesh job wait left')
    await writeFile(gate, '')
    const waited = await lab.cli(founder, ['job', 'wait', 'left', '--to', 'later'], { cwd })
    expect(waited.code).toBe(0)
    expect((await readdir(join(cwd, 'later'))).toSorted()).toEqual(['0.txt', '1.txt', '2.txt'])
  })

  it('--detach prints the job id alone on stdout', async () => {
    const cwd = await directory()
    const { code, stdout } = await lab.cli(founder, ['run', 'exit 7', '--detach'], { cwd })
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^run-\S+\n$/)])
    const waited = await lab.cli(founder, ['job', 'wait', stdout.trim()])
    expect(waited.code).toBe(1)
    expect(waited.stderr).toContain('exit code 7')
  })
})

describe.skipIf(process.platform !== 'linux')('on a terminal (util-linux script)', () => {
  /** Runs `batchmesh run` on a pseudo terminal; what is written to its stdin is typed. */
  function onTerminal(cwd: string, args: string[], env: Record<string, string | undefined> = {}) {
    const words = [batchmesh, 'run', ...args].map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(' ')
    return lab.spawn(['script', '-qefc', `exec ${words}`, '/dev/null'], {
      cwd,
      env: { BATCHMESH_DATA: founder.dataDir, TERM: 'xterm', ...env },
    })
  }

  it('there is a bar with counts, rate and time left, coloured unless NO_COLOR is set', async () => {
    const command = 'sleep 0.{index}; [ {index} != 1 ]'
    for (const env of [{ NO_COLOR: undefined }, { NO_COLOR: '1' }]) {
      const cwd = await directory()
      const { code, stdout } = await onTerminal(cwd, [command, '--array', '1-6'], env).exited
      expect(code).toBe(1)
      expect(stdout).toMatch(/tasks [█░]+ [1-5]\/6 {2}\d running.* {2}[\d.]+\/s {2}ETA \d/)
      expect(stdout).toContain('1 failed')
      expect(stdout.includes('\u001b[31m1 failed')).toBe(env.NO_COLOR === undefined)
      expect(stdout).toContain('5 succeeded, 1 failed')
    }
  })

  async function askedAt(job: string, answer: string) {
    const cwd = await directory()
    const gate = join(cwd, 'gate')
    const running = onTerminal(cwd, [waitFor(gate), '--array', '0-3', '--job-id', job])
    await whenRunning(running, job)
    running.child.stdin!.write('\u0003')
    await lab.until('it asks', () => running.stdout().includes('Stop the job, detach and leave it running, or go on?'))
    running.child.stdin!.write(answer)
    return { running, gate }
  }

  it('Ctrl-C asks, and "s" stops the job', async () => {
    const { running } = await askedAt('asked-stop', 's\r')
    const { code, stdout } = await running.exited
    expect(code).toBe(130)
    expect(stdout).toContain('job asked-stop is being stopped')
    await lab.until('the job is over', async () => (await lab.json(founder, ['job', 'show', 'asked-stop'])).state === 'completed')
  })

  it('Ctrl-C asks, and "d" leaves the job running', async () => {
    const { running, gate } = await askedAt('asked-detach', 'd\r')
    const { code, stdout } = await running.exited
    expect(code).toBe(130)
    expect(stdout).toContain('detached; job asked-detach goes on')
    await writeFile(gate, '')
    expect((await lab.cli(founder, ['job', 'wait', 'asked-detach'])).code).toBe(0)
  })

  it('Ctrl-C asks, and Enter goes on', async () => {
    const { running, gate } = await askedAt('asked-on', '\r')
    await writeFile(gate, '')
    const { code, stdout } = await running.exited
    expect(code).toBe(0)
    expect(stdout).toContain('4 succeeded, 0 failed')
  })

  it('a second Ctrl-C detaches', async () => {
    const { running, gate } = await askedAt('asked-twice', '\u0003')
    const { code } = await running.exited
    expect(code).toBe(130)
    await writeFile(gate, '')
    expect((await lab.cli(founder, ['job', 'wait', 'asked-twice'])).code).toBe(0)
  })
})
