import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { chownSync, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it } from 'vitest'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import { isRoot, processesOf, untilCount, wildCount, wildTag } from './task-lab.ts'

const driver = fileURLToPath(new URL('executor-driver.ts', import.meta.url))
/** Any user will do that owns nothing here. */
const nobody = 65_534
const asNobody = ['setpriv', '--reuid', `${nobody}`, '--regid', `${nobody}`, '--clear-groups']

interface Case {
  tier: IsolationTier
  user: 'root' | 'an ordinary user'
  /** Processes that outlive their task: a documented limit of the tier. */
  escaping: number
}
const cases: Case[] = [
  { tier: 'user+pidns', user: 'root', escaping: 0 },
  { tier: 'process-group', user: 'root', escaping: 0 },
  { tier: 'bwrap', user: 'an ordinary user', escaping: 0 },
  { tier: 'userns', user: 'an ordinary user', escaping: 0 },
  // One that left its parent and wiped its environment.
  { tier: 'process-group', user: 'an ordinary user', escaping: 1 },
]

/** TMPFS_MAGIC of statfs(2). */
const tmpfsType = 0x0102_1994

const roots: string[] = []
afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true })
})

function command({ tier, user }: Case, tag: string, mode: string): string[] {
  const root = mkdtempSync(join(tmpdir(), 'batchmesh-kill-'))
  roots.push(root)
  if (isRoot && user !== 'root') chownSync(root, nobody, nobody)
  return [...(isRoot && user !== 'root' ? asNobody : []), process.execPath, driver, tier, root, tag, mode]
}

/** Why a case cannot be tried here, or undefined. */
function obstacle(each: Case): string | undefined {
  if (each.user === 'root' && !isRoot) return 'the tests do not run as root'
  const [program, ...words] = command(each, wildTag(), 'probe')
  const { status, stderr } = spawnSync(program!, words, { encoding: 'utf8' })
  return status === 0 ? undefined : (/Error: .*/.exec(stderr)?.[0] ?? `it ends with ${status}: ${stderr.slice(-300)}`)
}

async function drive(each: Case, tag: string, mode: string): Promise<Record<string, unknown>> {
  const [program, ...words] = command(each, tag, mode)
  const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  let out = ''
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString()
  })
  await new Promise((resolve) => child.once('close', resolve))
  return JSON.parse(out)
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => createInterface({ input: child.stdout! }).once('line', resolve))
}

describe.each(cases)('$tier as $user', (each) => {
  const reason = obstacle(each)
  if (reason !== undefined) console.log(`skipped: ${each.tier} as ${each.user}: ${reason}`)
  const can = it.skipIf(reason !== undefined)

  // Without namespaces nothing is hidden: no such promise there.
  if (each.tier !== 'process-group') {
    can('S1: a task of another job sees neither files nor pipes nor the identity', async () => {
      expect(await drive(each, wildTag(), 'spy')).toEqual({ own: 'mine\n', seen: 'done\n', unshared: '' })
    })

    can('S1: what a job leaves in temporary directories is for its own tasks only, and goes with it', async () => {
      const { kinds, ...outcome } = await drive(each, wildTag(), 'leave')
      const own = '/tmp\n/var/tmp\n/dev/shm\n'
      expect(outcome).toEqual({ left: '', own, seen: '', outside: [], lanes: false })
      const disk = statfsSync(tmpdir()).type === tmpfsType ? 'tmpfs' : '(?!tmpfs).*'
      expect(kinds).toMatch(new RegExp(`^${disk}\\n${disk}\\ntmpfs\\n1777\\n1777\\n1777\\nbounded\\n$`))
    })
  }

  can('a task that ends takes its daemons with it', async () => {
    expect(await drive(each, wildTag(), 'end')).toEqual({ exitCode: 4, left: each.escaping })
  })

  can('a killed task is gone with all its processes; its lane goes on, and its neighbour notices nothing', async () => {
    const outcome = await drive(each, wildTag(), 'abort')
    expect(outcome).toEqual({ exitCode: 137, killed: true, stdout: '', left: each.escaping, after: 3, neighbour: 6 })
  })

  can('a task asked to end by SIGTERM may end in its own way', async () => {
    const outcome = await drive(each, wildTag(), 'terminate')
    expect(outcome).toEqual({ exitCode: 5, killed: true, stdout: 'asked\n', left: each.escaping, after: 3, neighbour: 6 })
  })

  can('a killed node leaves no task process behind', async () => {
    const tag = wildTag()
    const [program, ...words] = command(each, tag, 'hold')
    const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    expect(await firstLine(child)).toBe('holding')
    await untilCount(tag, wildCount)
    child.kill('SIGKILL')
    await untilCount(tag, each.escaping)
    for (const pid of processesOf(tag)) process.kill(pid, 'SIGKILL')
    await untilCount(tag, 0)
    // No helper is left either: each has the directory of this node in its command line, or has ended with its spawner.
    const root = words.find((word) => word.includes('batchmesh-kill-'))!
    while (execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).includes(root)) await new Promise((resolve) => setTimeout(resolve, 5))
  })
})
