/** `npm run bench -- tasks [--tasks N] [--rounds N] [--json]`: ratios against a baseline of the same run. */
import { parseArgs } from 'node:util'
import { benchTasks } from './tasks.ts'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    tasks: { type: 'string', default: '5000' },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
  },
})

if (positionals[0] !== 'tasks') {
  console.error('usage: npm run bench -- tasks [--tasks N] [--rounds N] [--json]')
  process.exit(2)
}
const result = await benchTasks({ tasks: Number(values.tasks), rounds: Number(values.rounds) })
if (values.json) console.log(JSON.stringify(result, undefined, 2))
else {
  for (const round of result.rounds) {
    console.log(`mesh ${round.meshPerSecond.toFixed(0)}/s   xargs ${round.xargsPerSecond.toFixed(0)}/s   share ${round.share.toFixed(2)}`)
  }
  console.log(`\n${result.tasks} no-op command tasks a round, isolation ${result.isolation}, medians of ${result.rounds.length}:`)
  console.log(
    `mesh ${result.meshPerSecond.toFixed(0)}/s, xargs -P2 ${result.xargsPerSecond.toFixed(0)}/s, share ${result.share.toFixed(2)}`,
  )
  console.log(
    `longest lag of a heartbeat: worker ${result.workerLagMs.toFixed(0)} ms, coordinator's loop ${result.coordinatorLagMs.toFixed(0)} ms`,
  )
}
