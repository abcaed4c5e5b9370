import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { processesOf, untilCount, wildCount, wildTag } from './task-lab.ts'
import { cases, rootPrefix, TierDriver } from './tier-driver.ts'

/** TMPFS_MAGIC of statfs(2). */
const tmpfsType = 0x0102_1994

const driver = new TierDriver(new URL('executor-driver.ts', import.meta.url))
afterEach(() => driver.clean())

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => createInterface({ input: child.stdout! }).once('line', resolve))
}

describe.each(cases)('$tier as $user', (each) => {
  const reason = driver.obstacle(each)
  if (reason !== undefined) console.log(`skipped: ${each.tier} as ${each.user}: ${reason}`)
  const can = it.skipIf(reason !== undefined)

  // Without namespaces nothing is hidden: no such promise there.
  if (each.tier !== 'process-group') {
    can('S1: a task of another job sees neither files nor pipes nor the identity', async () => {
      expect(await driver.drive(each, wildTag(), 'spy')).toEqual({ own: 'mine\n', seen: 'done\n', unshared: '' })
    })

    can('S1: what a job leaves in temporary directories is for its own tasks only, and goes with it', async () => {
      const { kinds, ...outcome } = await driver.drive(each, wildTag(), 'leave')
      const own = '/tmp\n/var/tmp\n/dev/shm\n'
      expect(outcome).toEqual({ left: '', own, seen: '', outside: [], lanes: false })
      const disk = statfsSync(tmpdir()).type === tmpfsType ? 'tmpfs' : '(?!tmpfs).*'
      expect(kinds).toMatch(new RegExp(`^${disk}\\n${disk}\\ntmpfs\\n1777\\n1777\\n1777\\nbounded\\n$`))
    })
  }

  can('a task that ends takes its daemons with it', async () => {
    expect(await driver.drive(each, wildTag(), 'end')).toEqual({ exitCode: 4, left: each.escaping })
  })

  can('a killed task is gone with all its processes; its lane goes on, and its neighbour notices nothing', async () => {
    const outcome = await driver.drive(each, wildTag(), 'abort')
    expect(outcome).toEqual({ exitCode: 137, killed: true, stdout: '', left: each.escaping, after: 3, neighbour: 6 })
  })

  can('a task asked to end by SIGTERM may end in its own way', async () => {
    const outcome = await driver.drive(each, wildTag(), 'terminate')
    expect(outcome).toEqual({ exitCode: 5, killed: true, stdout: 'asked\n', left: each.escaping, after: 3, neighbour: 6 })
  })

  can('a killed node leaves no task process behind', async () => {
    const tag = wildTag()
    const [program, ...words] = driver.command(each, tag, 'hold')
    const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    expect(await firstLine(child)).toBe('holding')
    await untilCount(tag, wildCount)
    child.kill('SIGKILL')
    await untilCount(tag, each.escaping)
    for (const pid of processesOf(tag)) process.kill(pid, 'SIGKILL')
    await untilCount(tag, 0)
    // No helper is left either: each has the directory of this node in its command line, or has ended with its spawner.
    const root = words.find((word) => word.includes(rootPrefix))!
    while (execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).includes(root)) await new Promise((resolve) => setTimeout(resolve, 5))
  })
})
