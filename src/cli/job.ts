/** `batchmesh job …`. */
import { type Command, Option } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import type { JobView } from '../../protocols/model/job.ts'
import { type Context, given, integer, pairs } from './context.ts'
import { durationMs, showTime } from './format.ts'
import { jobFromJson, readJson } from './json-file.ts'
import type { Column, Fields } from './output.ts'
import { register as registerReport } from './report/command.ts'

const columns: Column<JobView>[] = [
  { title: 'id', value: (j) => j.id },
  { title: 'state', value: (j) => j.state },
  { title: 'pool', value: (j) => j.poolId },
  { title: 'priority', value: (j) => j.priority, right: true },
  { title: 'waiting', value: (j) => j.counts.active, right: true },
  { title: 'running', value: (j) => j.counts.running, right: true },
  { title: 'succeeded', value: (j) => j.counts.succeeded, right: true },
  { title: 'failed', value: (j) => j.counts.failed, right: true },
  { title: 'created', value: (j) => showTime(j.creationTime) },
]

function fields(j: JobView): Fields {
  const { counts } = j
  return [
    ['id', j.id],
    ['name', j.displayName],
    ['state', `${j.state} since ${showTime(j.stateTransitionTime)}${j.terminateReason === undefined ? '' : ` (${j.terminateReason})`}`],
    ['pool', j.poolId],
    ['priority', j.priority],
    [
      'tasks',
      `${counts.active} ${j.state === 'completed' ? 'never run' : 'waiting'}, ${counts.running} running, ${counts.succeeded} succeeded, ${counts.failed} failed`,
    ],
    ['retries', j.constraints.maxTaskRetryCount],
    ['at the end', j.onAllTasksComplete],
    ['submitted', `${showTime(j.creationTime)}${j.submitter === undefined ? '' : ` by ${j.submitter}`}`],
    ['ended', showTime(j.endTime)],
    ['left out', j.excludedMachines.map(({ name, reason }) => `${name}: ${reason}`).join('\n')],
  ]
}

export function register(program: Command, context: Context): void {
  const group = program.command('job').description('Jobs: tasks that belong together, run on one pool.')
  create(group, context)

  const list = group.command('list').description('Lists the jobs.').addHelpText('after', '\nExample:\n  batchmesh job list')
  context.action(list, async () => {
    const mesh = await context.mesh()
    const jobs: JobView[] = []
    let after: string | undefined
    do {
      const page = await mesh.control.call('listJobs', { after })
      jobs.push(...page.items)
      after = page.next
    } while (after !== undefined)
    await context.list(columns, jobs)
  })

  const show = group
    .command('show')
    .description('Shows a job.')
    .argument('[job]')
    .option('--job-id <id>')
    .addHelpText('after', '\nExample:\n  batchmesh job show render')
  context.action<{ jobId?: string }>(show, async (options, [word]) => {
    const view = await (await context.mesh()).control.call('getJob', { jobId: given(options.jobId ?? word, 'job') })
    await context.one(fields(view), view)
  })

  const stop = group
    .command('stop')
    .description('Ends a job: its running tasks are stopped, its waiting tasks never run.')
    .argument('[job]')
    .option('--job-id <id>')
    .option('--terminate-reason <text>')
    .option('-y, --yes', 'accepted as Azure’s own command line has it; nothing is asked')
    .addHelpText('after', '\nExample:\n  batchmesh job stop render')
  context.action<{ jobId?: string; terminateReason?: string }>(stop, async (options, [word]) => {
    const jobId = given(options.jobId ?? word, 'job')
    await (await context.mesh()).control.call('terminateJob', { jobId, terminateReason: options.terminateReason })
    await context.done(`Job ${jobId} is being stopped.`, { stopped: jobId })
  })

  const remove = group
    .command('delete')
    .description('Deletes a job with its tasks and their files.')
    .argument('[job]')
    .option('--job-id <id>')
    .option('-y, --yes', 'accepted as Azure’s own command line has it; nothing is asked')
    .addHelpText('after', '\nExample:\n  batchmesh job delete render')
  context.action<{ jobId?: string }>(remove, async (options, [word]) => {
    const jobId = given(options.jobId ?? word, 'job')
    await (await context.mesh()).control.call('deleteJob', { jobId })
    await context.done(`Job ${jobId} is being deleted.`, { deleted: jobId })
  })
  wait(group, context)
  registerReport(group, context)
  rerun(group, context)
}

interface CreateOptions {
  id?: string
  poolId?: string
  priority?: string
  displayName?: string
  jsonFile?: string
  jobMaxTaskRetryCount?: string
  jobMaxWallClockTime?: string
  maxParallelTasks?: string
  usesTaskDependencies?: boolean
  onAllTasksComplete?: string
  environmentSettings?: string[]
  retentionTime?: string
  metadata?: string[]
}

function create(group: Command, context: Context): void {
  const command = group
    .command('create')
    .description('Creates a job. Its tasks are added with "batchmesh task create".')
    .argument('[job]', 'its id')
    .option('--id <id>')
    .option('--pool-id <id>', 'pool that runs it (default: "default", every machine)')
    .option('--priority <number>', '-1000 to 1000, higher first')
    .option('--display-name <text>')
    .option('--job-max-task-retry-count <number>', 'runs of a task again after a failure')
    .option('--job-max-wall-clock-time <duration>', 'ends the job after this')
    .option('--max-parallel-tasks <number>', 'tasks that run at once at most')
    .option('--uses-task-dependencies', 'tasks may depend on others')
    .addOption(
      new Option('--on-all-tasks-complete <action>', 'what happens when all tasks are complete').choices(['noaction', 'terminatejob']),
    )
    .option('--environment-settings <name=value...>', 'for all tasks')
    .option('--retention-time <duration>', 'delete the job so long after its end')
    .option('--metadata <name=value...>')
    .option('--json-file <file>', 'all properties as JSON, in Azure’s shape; - for standard input')
    .addHelpText('after', '\nExample:\n  batchmesh job create render --pool-id big --priority 10')
  context.action<CreateOptions>(command, async (options, [word]) => {
    const json = options.jsonFile === undefined ? {} : await readJson(options.jsonFile, context.world)
    const named = (texts: string[] | undefined, option: string) =>
      texts === undefined ? undefined : pairs(texts, option).map(([name, value]) => ({ name, value }))
    const maxTaskRetryCount = integer(options.jobMaxTaskRetryCount, '--job-max-task-retry-count', -1)
    const maxWallClockTimeMs =
      options.jobMaxWallClockTime === undefined ? undefined : durationMs(options.jobMaxWallClockTime, '--job-max-wall-clock-time')
    const hasConstraints = maxTaskRetryCount !== undefined || maxWallClockTimeMs !== undefined
    const spec = jobFromJson(json, {
      id: options.id ?? word,
      poolId: options.poolId,
      priority: integer(options.priority, '--priority', -1000, 1000),
      displayName: options.displayName,
      constraints: hasConstraints ? { maxTaskRetryCount, maxWallClockTimeMs } : undefined,
      maxParallelTasks: integer(options.maxParallelTasks, '--max-parallel-tasks', -1),
      usesTaskDependencies: options.usesTaskDependencies,
      onAllTasksComplete: options.onAllTasksComplete,
      commonEnvironmentSettings: named(options.environmentSettings, '--environment-settings'),
      retentionTimeMs: options.retentionTime === undefined ? undefined : durationMs(options.retentionTime, '--retention-time'),
      metadata: named(options.metadata, '--metadata'),
    })
    const view = await (await context.mesh()).control.call('addJob', spec)
    await context.one(fields(view), view)
  })
}

function wait(group: Command, context: Context): void {
  const command = group
    .command('wait')
    .description(
      'Waits until every task of a job is complete, and shows progress. Exits with 1 when tasks failed. Ctrl-C only ends the waiting.',
    )
    .argument('[job]')
    .option('--job-id <id>')
    .option('--to <dir>', 'also write the tasks’ outputs there')
    .option('-q, --quiet', 'no progress')
    .addHelpText('after', '\nExample:\n  batchmesh job wait render --to out/')
  context.action<{ jobId?: string; to?: string; quiet?: boolean }>(command, async (options, [word]) => {
    const { waitForJob } = await import('./run/wait.ts')
    return waitForJob(context, given(options.jobId ?? word, 'job'), { to: options.to, quiet: options.quiet === true })
  })
}

interface RerunOptions {
  jobId?: string
  failed?: boolean
  all?: boolean
  to?: string
  detach?: boolean
  quiet?: boolean
}

function rerun(group: Command, context: Context): void {
  const command = group
    .command('rerun')
    .description(
      'Runs tasks of a job again: in the job itself while it is active, else in a new job JOB-r2. Then waits for it as "job wait" does.',
    )
    .argument('[job]')
    .option('--job-id <id>')
    .option('--failed', 'those that failed, or never ran because the job was ended')
    .option('--all', 'all of them; only of a job that is completed')
    .option('--to <dir>', 'also write the tasks’ outputs there')
    .option('-d, --detach', 'do not wait')
    .option('-q, --quiet', 'no progress')
    .addHelpText('after', '\nExample:\n  batchmesh job rerun render --failed --to out/')
  context.action<RerunOptions>(command, async (options, [word]) => {
    const jobId = given(options.jobId ?? word, 'job')
    const all = options.all === true
    if (all === (options.failed === true)) throw new MeshError('InvalidPropertyValue', 'Say which tasks run again: --failed, or --all.')
    if (options.detach === true && options.to !== undefined)
      throw new MeshError(
        'InvalidPropertyValue',
        `--to needs the end of the tasks. Leave out --detach, or get the outputs later: batchmesh job wait JOB --to ${options.to}`,
      )
    const { rerunJob } = await import('./run/rerun.ts')
    const { to } = options
    return rerunJob(context, jobId, {
      all,
      detach: options.detach === true,
      quiet: options.quiet === true,
      ...(to === undefined ? {} : { to }),
    })
  })
}
