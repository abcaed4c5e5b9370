/** Scripts for Slurm, and the lines of ranks. */
import assert from 'node:assert/strict'
import { RankReader } from '../../src/cli/mpi/ranks.ts'
import { ignoredOptions, slurmOptions } from '../../src/cli/submit/options.ts'
import { submitTask } from '../../src/cli/submit/plan.ts'
import { directivesOf } from '../../src/cli/submit/script.ts'
import { settingsOf } from '../../src/cli/submit/settings.ts'
import { fileName } from '../../src/cli/submit/values.ts'
import type { Dice } from './dice.ts'
import { mayRefuse, type Target } from './target.ts'

const values = [
  '1',
  '2-4',
  '00:10:00',
  '1-12',
  '4G',
  '0-99%4',
  'afterok:12',
  'gpu:a100:2',
  'A=1,HOME',
  'x',
  '%x-%4a.out',
  'out/dir',
  '0',
  'ALL',
]
const names = [...slurmOptions, ...ignoredOptions].flatMap(({ name, short }) => [
  `--${name}`,
  ...(short === undefined ? [] : [`-${short}`]),
])

function line(dice: Dice): string {
  const words = Array.from({ length: dice.below(4) }, () => {
    const value = dice.chance(0.7) ? dice.pick(values) : dice.text(8)
    return dice.pick([
      () => `${dice.pick(names)}=${value}`,
      () => dice.pick(names) + value,
      () => `${dice.pick(names)} ${value}`,
      () => value,
    ])()
  })
  return `${dice.pick(['#SBATCH ', '#SBATCH\t', '#SBATCH', '# ', ''])}${words.join(dice.pick([' ', '  ', '\t']))}`
}

const batchScripts: Target = {
  name: 'batch scripts',
  feed(dice) {
    const text = `${dice.pick(['#!/bin/sh\n', '#!/bin/bash -l\n', '', dice.text(4)])}${Array.from({ length: dice.below(6) }, () => line(dice)).join('\n')}`
    const settings = mayRefuse(() => {
      const { given } = directivesOf(text, 'job.sh')
      return settingsOf(given, [], { scriptName: 'job.sh', environment: { HOME: '/home/u' } })
    })
    if (settings === undefined) return
    const { nodes = 1, ntasks = nodes } = settings
    assert(ntasks >= nodes)
    const size = { ranks: ntasks, nodes, ranksPerNode: Math.ceil(ntasks / nodes), cores: 1 }
    const files = { kit: [], shared: [], outputs: ['**'] }
    mayRefuse(() => submitTask('7', { name: 'job.sh', args: [] }, settings, { size, cpusPerTask: 1 }, files, 'host'))
    // What is put in for a letter leads nowhere else.
    const named = fileName(dice.text(10).replaceAll('/', ''), {
      jobId: '7',
      jobName: dice.text(8),
      index: 3,
      node: dice.text(4),
      user: 'u',
    })
    assert(!named.includes('/'))
  },
}

const quoted: Target = {
  name: 'quoted values',
  feed(dice) {
    const value = dice.text(20).replaceAll(/["\n\r\0]/g, '')
    const settings = mayRefuse(() => {
      const { given } = directivesOf(`#!/bin/sh\n#SBATCH --job-name="${value}" # "\ntrue\n`, 'job.sh')
      return settingsOf(given, [], { scriptName: 'job.sh', environment: {} })
    })
    if (value === '') assert.equal(settings, undefined)
    else assert.equal(settings?.jobName, value)
  },
}

const rankLines: Target = {
  name: 'rank lines',
  feed(dice) {
    const written: string[][] = [[], [], []]
    const open: string[] = ['', '', '']
    let text = ''
    for (let pieces = dice.below(30); pieces > 0; pieces -= 1) {
      const rank = dice.below(3)
      const piece = dice.text(6).replaceAll(/[\n[\]]/g, '')
      const isWhole = dice.chance(0.5)
      text += `[1,${rank}]<stdout>:${piece}${isWhole ? '\n' : ''}`
      open[rank] += piece
      if (!isWhole) continue
      written[rank]!.push(open[rank]!)
      open[rank] = ''
    }
    for (const [rank, rest] of open.entries()) if (rest !== '') written[rank]!.push(rest)
    const reader = new RankReader()
    const read: string[][] = [[], [], []]
    for (let at = 0; at < text.length; ) {
      const end = at + 1 + dice.below(20)
      for (const { rank, text: whole } of reader.push(text.slice(at, end))) read[rank!]!.push(whole)
      at = end
    }
    for (const { rank, text: whole } of reader.end()) read[rank!]!.push(whole)
    assert.deepEqual(
      read.map((lines) => lines.filter((one) => one !== '')),
      written.map((lines) => lines.filter((one) => one !== '')),
    )
  },
}

export const scriptTargets: readonly Target[] = [batchScripts, quoted, rankLines]
