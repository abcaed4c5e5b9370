/** The model of leases (model/leases.pml), explored whole by spin: every order of events within its bounds, not a sample of them. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'

const model = join(import.meta.dirname, 'model', 'leases.pml')
const has = (tool: string) => spawnSync(tool, ['--version']).error === undefined
const missing = ['spin', 'gcc'].filter((tool) => !has(tool))
if (missing.length > 0) console.log(`The model of leases is not checked: ${missing.join(' and ')} not found (apt-get install spin gcc).`)

const scratch = mkdtempSync(join(tmpdir(), 'batchmesh-model-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

interface Verdict {
  errors: number
  states: number
  output: string
}

/** Explores the model; `live` looks for runs that never complete, else for broken assertions. */
function explore(bounds: string, live: boolean): Verdict {
  const directory = mkdtempSync(join(scratch, 'run-'))
  const run = (command: string, args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: directory, encoding: 'utf8' })
    if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stdout}${stderr}`)
    return stdout
  }
  run('spin', ['-a', ...bounds.split(' '), model])
  run('gcc', ['-O1', '-w', '-DCOLLAPSE', ...(live ? ['-DNFAIR=3'] : ['-DSAFETY']), '-o', 'pan', 'pan.c'])
  const output = run('./pan', live ? ['-a', '-f', '-m1000000'] : ['-noclaim', '-m100000'])
  const number = (pattern: RegExp) => Number(pattern.exec(output)?.[1] ?? Number.NaN)
  return { errors: number(/errors: (\d+)/), states: number(/(\d+) states, stored/), output }
}

describe.skipIf(missing.length > 0)('the model of leases', () => {
  it.each([
    ['one task, two epochs, a cut, a kill, a loss', '-DG=1 -DE=2'],
    ['a gang of two, a kill, a loss', '-DG=2 -DE=2 -DCUTS=0'],
  ])('L1, L2, L5, M1 hold for %s', (_, bounds) => {
    const { errors, states, output } = explore(bounds, false)
    expect(errors, output).toBe(0)
    expect(states).toBeGreaterThan(10_000)
  })

  it.each([
    ['one task, a kill and a loss', '-DG=1 -DE=3 -DCUTS=0'],
    ['one task, a cut and a loss', '-DG=1 -DE=3 -DKILLS=0'],
    ['a gang of two and a kill', '-DG=2 -DE=2 -DCUTS=0 -DLOSSES=0'],
  ])('a task completes once the faults have stopped: %s', (_, bounds) => {
    const { errors, states, output } = explore(bounds, true)
    expect(errors, output).toBe(0)
    expect(states).toBeGreaterThan(10_000)
  })

  it.each([
    ['L5: speaking before the sync', '-DG=1 -DE=2 -DPLANT=1'],
    ['L2: taking a report without looking at its epoch', '-DG=1 -DE=2 -DPLANT=2'],
    ['M1: taking a late report of a gang that lost a member', '-DG=2 -DE=2 -DPLANT=3'],
    ['L2: giving an epoch out again', '-DG=1 -DE=2 -DPLANT=4'],
  ])('%s is found out', (_, bounds) => {
    expect(explore(bounds, false).errors).toBe(1)
  })
})
