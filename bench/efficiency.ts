/** Tasks of 100 ms on two slots: how much of the slots' time they fill. `xargs -P2` on the same work in the same run. */
import { availableParallelism } from 'node:os'
import { type Bench, numbers } from './bench.ts'
import { costOfShell, median } from './lab.ts'
import { commandTasks, WatchedJob, withPair } from './pair.ts'

const taskMs = 100

interface EfficiencyResult {
  tasks: number
  slots: number
  efficiency: number
  xargsEfficiency: number
  rounds: { efficiency: number; xargsEfficiency: number }[]
}

export const bench: Bench = {
  usage: '[--tasks 200] [--rounds 3]',
  async run(args) {
    const { tasks, rounds: count } = numbers(args, { tasks: 200, rounds: 3 })
    const slots = Math.min(2, availableParallelism())
    const idealMs = (tasks * taskMs) / slots
    const commandLine = `sleep ${taskMs / 1000}`
    const rounds = await withPair(slots, async ({ mesh }) => {
      const warmUp = await WatchedJob.open(mesh, 'warm-up')
      await warmUp.run(commandTasks(0, 20, commandLine), 20)
      await warmUp.close()
      const done: EfficiencyResult['rounds'] = []
      for (let round = 0; round < count; round += 1) {
        const job = await WatchedJob.open(mesh, `round-${round}`)
        const efficiency = idealMs / (await job.run(commandTasks(0, tasks, commandLine), tasks))
        await job.close()
        const { seconds } = await costOfShell(`seq ${tasks} | xargs -P${slots} -I_ ${commandLine}`)
        done.push({ efficiency, xargsEfficiency: idealMs / (seconds * 1000) })
      }
      return done
    })
    const result: EfficiencyResult = {
      tasks,
      slots,
      efficiency: median(rounds.map(({ efficiency }) => efficiency)),
      xargsEfficiency: median(rounds.map(({ xargsEfficiency }) => xargsEfficiency)),
      rounds,
    }
    return { result, lines: lines(result) }
  },
}

function lines({ tasks, slots, efficiency, xargsEfficiency, rounds }: EfficiencyResult): string[] {
  const show = (value: number) => value.toFixed(3)
  return [
    ...rounds.map((round) => `mesh ${show(round.efficiency)}   xargs ${show(round.xargsEfficiency)}`),
    `\n${tasks} tasks of ${taskMs} ms on ${slots} slots, medians of ${rounds.length}: efficiency ${show(efficiency)}, xargs ${show(xargsEfficiency)}`,
  ]
}
