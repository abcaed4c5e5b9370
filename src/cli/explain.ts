/** `batchmesh explain`. */
import type { Command } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import { type Context, given } from './context.ts'
import { visible } from './output.ts'

interface Options {
  jobId?: string
  taskId?: string
  poolId?: string
}

export function register(program: Command, context: Context): void {
  const command = program
    .command('explain')
    .description('Says why a task, a job or a pool waits.')
    .argument('[what]', 'JOB/TASK, a pool or a job')
    .option('--job-id <id>')
    .option('--task-id <id>')
    .option('--pool-id <id>')
    .addHelpText('after', '\nExamples:\n  batchmesh explain render/0042\n  batchmesh explain --pool-id big')
  context.action<Options>(command, async (options, [what]) => {
    const mesh = await context.mesh()
    const question = asked(what, options)
    const answer = await mesh.control.call('explain', question).catch((error: unknown) => {
      // A bare word may as well be a job.
      if (!isPoolMissing(error) || what === undefined || question.poolId !== what) throw error
      return mesh.control.call('explain', { jobId: what }).catch((other: unknown) => {
        throw isJobMissing(other) ? new MeshError('PoolNotFound', `There is no pool and no job ${what}. A task is named JOB/TASK.`) : other
      })
    })
    if (context.isForPeople) {
      await context.world.stdout.write(`${[answer.summary, ...answer.details.map((detail) => `  ${detail}`)].map(visible).join('\n')}\n`)
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

const isPoolMissing = (error: unknown) => error instanceof MeshError && error.code === 'PoolNotFound'
const isJobMissing = (error: unknown) => error instanceof MeshError && error.code === 'JobNotFound'

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
