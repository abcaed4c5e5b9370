/** `npm run bench -- tasks | array [--tasks N] [--rounds N] [--json]`: see tasks.ts and array.ts. */
import { parseArgs } from 'node:util'
import { type ArrayResult, benchArray } from './array.ts'
import { benchTasks, type TasksResult } from './tasks.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tasks: { type: 'string' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
})

const show = (result: unknown, lines: string[]) => console.log(values.json ? JSON.stringify(result, undefined, 2) : lines.join('\n'))

if (positionals[0] === 'tasks') {
  const result = await benchTasks({ tasks: Number(values.tasks ?? 5000), rounds: Number(values.rounds) })
  show(result, tasksLines(result))
} else if (positionals[0] === 'array') {
  const result = await benchArray(Number(values.tasks ?? 1_000_000))
  show(result, arrayLines(result))
} else {
  console.error('usage: npm run bench -- tasks [--tasks N] [--rounds N] [--json]\n       npm run bench -- array [--tasks N] [--json]')
  process.exitCode = 2
}

function tasksLines(result: TasksResult): string[] {
  const { meshPerSecond, xargsPerSecond, share } = result
  return [
    ...result.rounds.map(
      (round) => `mesh ${round.meshPerSecond.toFixed(0)}/s   xargs ${round.xargsPerSecond.toFixed(0)}/s   share ${round.share.toFixed(2)}`,
    ),
    `\n${result.tasks} no-op command tasks a round, isolation ${result.isolation}, medians of ${result.rounds.length}:`,
    `mesh ${meshPerSecond.toFixed(0)}/s, xargs -P2 ${xargsPerSecond.toFixed(0)}/s, share ${share.toFixed(2)}`,
    `longest lag of a heartbeat: worker ${result.workerLagMs.toFixed(0)} ms, coordinator's loop ${result.coordinatorLagMs.toFixed(0)} ms`,
  ]
}

function arrayLines(result: ArrayResult): string[] {
  const ms = (value: number) => `${value.toFixed(0)} ms`
  return [
    `an array of ${result.tasks} tasks, with no machine to run it:`,
    `submitted in ${ms(result.submitMs)}, ${result.aboveIdleMiB?.toFixed(1) ?? '?'} MiB resident above idle while it waits`,
    `first page of all ${ms(result.firstPageMs)}, of the running ${ms(result.runningMs)}, of the failed ${ms(result.failedMs)}; counts ${ms(result.countMs)}`,
    `longest lag of the coordinator's loop ${ms(result.lagMs)}`,
  ]
}
