/** `batchmesh explain`. */
import type { Command } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import { type Context, given } from './context.ts'

interface Options {
  jobId?: string
  taskId?: string
  poolId?: string
}

export function register(program: Command, context: Context): void {
  const command = program
    .command('explain')
    .description('Says why a task, a job or a pool waits.')
    .argument('[what]', 'JOB/TASK, or a pool; a job with --job-id')
    .option('--job-id <id>')
    .option('--task-id <id>')
    .option('--pool-id <id>')
    .addHelpText('after', '\nExamples:\n  batchmesh explain render/0042\n  batchmesh explain --pool-id big')
  context.action<Options>(command, async (options, [what]) => {
    const mesh = await context.mesh()
    const answer = await mesh.control.call('explain', asked(what, options))
    if (context.format === 'table') {
      await context.world.stdout.write(`${[answer.summary, ...answer.details.map((detail) => `  ${detail}`)].join('\n')}\n`)
    } else
      await context.one(
        [
          ['summary', answer.summary],
          ['details', answer.details.join('\n')],
        ],
        answer,
      )
  })
}

function asked(what: string | undefined, options: Options): { jobId?: string; taskId?: string; poolId?: string } {
  if (what === undefined) {
    if (options.taskId !== undefined && options.jobId === undefined)
      throw new MeshError('InvalidPropertyValue', '--task-id needs --job-id.')
    if (options.jobId === undefined && options.poolId === undefined) given(undefined, 'task as JOB/TASK, or the pool')
    return { jobId: options.jobId, taskId: options.taskId, poolId: options.poolId }
  }
  const [first, second] = what.split('/')
  if (second !== undefined) return { jobId: given(first, 'job'), taskId: given(second, 'task') }
  return options.jobId === undefined ? { poolId: what } : { jobId: options.jobId, taskId: what }
}
