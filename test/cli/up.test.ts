import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { stopOnInterrupt } from '../../src/cli/node/stop.ts'
import { welcome } from '../../src/cli/node/up.ts'
import type { Interrupt } from '../../src/cli/world.ts'
import { Lab } from './lab.ts'

const main = join(import.meta.dirname, '../../src/cli/main.ts')
let data: string
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'batchmesh-up-'))
  // Users of tasks must reach what is theirs below it.
  chmodSync(data, 0o711)
})
afterEach(() => rmSync(data, { recursive: true, force: true }))

function up(...more: string[]) {
  const argv = ['up', '--data', data, '--port', '0', '--no-mdns', '--listen', '127.0.0.1', ...more]
  return spawnSync(process.execPath, [main, ...argv], { encoding: 'utf8' })
}

describe('up', () => {
  it('--detach prints the invitation and writes it to no log', () => {
    const ran = up('--detach')
    spawnSync(process.execPath, [main, 'down', '--data', data])
    expect(ran.status).toBe(0)
    const token = /batchmesh up --join (\S+)/.exec(ran.stdout)![1]!
    const log = readFileSync(join(data, 'log/node.log'), 'utf8')
    expect(log).toMatch(/founded mesh/)
    expect(log).not.toContain(token)
    expect(log).not.toContain('--join')
  }, 60_000)

  it.each([
    ['--lend-cpus', '100000'],
    ['--lend-memory', '100000TiB'],
  ])(
    'refuses %s %s as wrong usage',
    (...option) => {
      const ran = up(...option)
      expect(ran).toMatchObject({ status: 2, stderr: expect.stringMatching(/is more than this machine has/) })
    },
    60_000,
  )
})

it('the welcome shows control characters of names and labels escaped', () => {
  const lends = { cores: 1, memoryMiB: 1, class: 'dedicated', labels: { room: '\u001b[2J' } } as const
  const text = welcome({ name: 'a\u001b[2Jb', peer: 'p', how: 'joined', meshId: 'm', taskUser: 'u', lends })
  expect(text).toMatch(/Node a\\x1b\[2Jb \(p\)[\s\S]*room=\\x1b\[2J/)
})

describe('interruptions of up', () => {
  it('stop in order at first, and at once the second time, even if closing hangs', () => {
    const happened: string[] = []
    let interrupt: (signal: Interrupt) => void = () => {}
    const world = {
      onInterrupt: (handler: (signal: Interrupt) => void) => {
        interrupt = handler
        return () => {}
      },
      exit: (code: number) => void happened.push(`exit ${code}`),
    }
    const stop = () => {
      happened.push('stop')
      return new Promise<void>(() => {})
    }
    stopOnInterrupt(world, { stop }, () => {})
    interrupt('SIGHUP')
    expect(happened).toEqual(['stop'])
    interrupt('SIGINT')
    expect(happened).toEqual(['stop', 'exit 130'])
  })
})

it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s is heard by a program that hooks interruptions', async (signal) => {
  const world = join(import.meta.dirname, '../../src/cli/world.ts')
  const script = join(data, 'program.mjs')
  writeFileSync(
    script,
    `import { processWorld } from ${JSON.stringify(world)}
       const timer = setInterval(() => {}, 1000)
       processWorld().onInterrupt((signal) => { console.log(signal); clearInterval(timer) })
       console.log('ready')`,
  )
  const child = spawn(process.execPath, [script])
  const said: string[] = []
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said.push(text)
    if (text.includes('ready')) child.kill(signal)
  })
  expect(await once(child, 'close')).toEqual([0, null])
  expect(said.join('')).toBe(`ready\n${signal}\n`)
})

it.each(['SIGTERM', 'SIGHUP'] as const)('%s detaches a run without asking', async (signal) => {
  const lab = new Lab()
  try {
    lab.interactive = true
    lab.mesh.gate = new Promise(() => {})
    lab.mesh.onCall = (name) => void (name === 'watch' && setImmediate(() => lab.interrupt(signal)))
    const ran = await lab.run('run', 'true')
    expect(ran).toMatchObject({ code: 130, stderr: expect.stringMatching(/detached; job run-\S+ goes on/) })
    expect(lab.questions).toEqual([])
  } finally {
    lab.close()
  }
})
