/** The command line with words that nobody would type: it answers in words, with one of its exit codes, and never with a stack. */
import assert from 'node:assert/strict'
import { Lab } from '../cli/lab.ts'
import type { Dice } from './dice.ts'
import type { Target } from './target.ts'

/** Commands that only ask the mesh. Those that start, end or look at a machine are not for chance. */
const commands = [
  ['job', 'create'],
  ['job', 'show'],
  ['job', 'list'],
  ['job', 'stop'],
  ['task', 'create'],
  ['task', 'list'],
  ['task', 'show'],
  ['pool', 'create'],
  ['pool', 'resize'],
  ['machine', 'list'],
  ['machine', 'show'],
  ['run', '--dry-run'],
  ['explain'],
  ['nosuch'],
]
const options = [
  '--id',
  '--job-id',
  '--pool-id',
  '--priority',
  '--command-line',
  '--depends-on',
  '--environment-settings',
  '--resource-files',
  '--vm-size',
  '--target-dedicated-nodes',
  '--array',
  '--inputs',
  '--outputs',
  '--to',
  '--timeout',
  '--memory',
  '--label',
  '--limit',
  '--state',
  '--query',
  '-o',
  '--nosuch',
  '--',
  '--retention-time',
]
const values = [
  'a',
  '1',
  '-1',
  '0-9:2',
  '1,2',
  '90s',
  'PT1H',
  '4GiB',
  'x=y',
  'json',
  'table',
  '{input}',
  '[?a',
  'standard_d2s_v3',
  'cores=2',
  '',
]

/** What the program promises (docs/cli.md). */
const exitCodes = [0, 1, 2, 3]

let lab: Lab | undefined
process.once('exit', () => lab?.close())

async function feed(dice: Dice): Promise<void> {
  lab ??= new Lab()
  const words = [...dice.pick(commands)]
  for (let more = dice.below(6); more > 0; more -= 1)
    words.push(dice.chance(0.5) ? dice.pick(options) : dice.chance(0.5) ? dice.pick(values) : dice.text(10))
  const { code, stderr } = await lab.run(...words)
  const said = `batchmesh ${JSON.stringify(words)} -> ${code}: ${stderr}`
  assert(exitCodes.includes(code), said)
  assert(code === 0 || stderr.trim() !== '', `a failure says why; ${said}`)
  assert(!/^\s+at .*:\d+:\d+/m.test(stderr) && !/internal error|InternalError|undefined is not|Cannot read/i.test(stderr), said)
}

export const cliTarget: Target = { name: 'command line', feed }
