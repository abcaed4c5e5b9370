/** `batchmesh task …`. The files of tasks are in task-file.ts. */
import { resolve } from 'node:path'
import { type Command, Option } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import { blobIdSchema } from '../../protocols/ids.ts'
import { shellHint } from '../../protocols/model/command-line.ts'
import { failureText, type TaskState, type TaskView } from '../../protocols/model/task.ts'
import { memoryMiB } from '../../protocols/model/vm-sizes.ts'
import type { Mesh } from '../mesh/client.ts'
import { parseArray } from './array.ts'
import { type Context, collect, given, integer, pairs, positive, taskRef } from './context.ts'
import { parseDependencies } from './dependencies.ts'
import { durationMs, showDuration, showTime } from './format.ts'
import { checkTask, type JsonObject, localFileProperty, readJson, tasksFromJson } from './json-file.ts'
import type { Column, Fields } from './output.ts'
import { registerFiles } from './task-file.ts'
import { type FunctionOptions, Functions, shownResult, threadOf, whatRuns } from './task-function.ts'
import { instances, registerSubtasks } from './task-subtasks.ts'

export function register(program: Command, context: Context): void {
  const group = program.command('task').description('Tasks of a job. A task is named JOB/TASK.')
  create(group, context)
  list(group, context)

  const show = group
    .command('show')
    .description('Shows a task: its outcome, its machine, its outputs.')
    .argument('[task]', 'JOB/TASK')
    .option('--job-id <id>')
    .option('--task-id <id>')
    .addHelpText('after', '\nExample:\n  batchmesh task show render/0042')
  context.action<{ jobId?: string; taskId?: string }>(show, async (options, [word]) => {
    const mesh = await context.mesh()
    const task = await mesh.control.call('getTask', taskRef(word, options))
    const result = await shownResult(mesh, task)
    await context.one([...fields(task), ...result.fields], result.view)
  })

  const verbs = {
    stop: ['terminateTask', 'Stops a task; it completes as failed.', 'stopped'],
    reactivate: ['reactivateTask', 'Runs a failed task again.', 'waiting to run again'],
  } as const
  for (const [verb, [call, description, done]] of Object.entries(verbs)) {
    const command = group
      .command(verb)
      .description(description)
      .argument('[task]', 'JOB/TASK')
      .option('--job-id <id>')
      .option('--task-id <id>')
      .addHelpText('after', `\nExample:\n  batchmesh task ${verb} render/0042`)
    context.action<{ jobId?: string; taskId?: string }>(command, async (options, [word]) => {
      const ref = taskRef(word, options)
      await (await context.mesh()).control.call(call, ref)
      await context.done(`Task ${ref.jobId}/${ref.taskId} is ${done}.`, ref)
    })
  }
  registerSubtasks(group, context)
  registerFiles(group, context)
}

const columns: Column<TaskView>[] = [
  { title: 'id', value: (t) => t.id },
  { title: 'state', value: (t) => (t.state === 'running' && t.phase !== undefined ? `running (${t.phase})` : t.state) },
  { title: 'result', value: (t) => t.executionInfo.result },
  { title: 'exit', value: (t) => t.executionInfo.exitCode, right: true },
  { title: 'machine', value: (t) => t.nodeInfo?.machineName },
  { title: 'started', value: (t) => showTime(t.executionInfo.startTime) },
  { title: 'took', value: (t) => took(t) },
  { title: 'retries', value: (t) => t.executionInfo.retryCount, right: true },
  { title: 'requeues', value: (t) => t.executionInfo.requeueCount, right: true },
  { title: 'command', value: (t) => whatRuns(t) },
]

function took({ executionInfo: { startTime, endTime } }: TaskView): string {
  return startTime === undefined || endTime === undefined ? '' : showDuration(endTime - startTime)
}

function fields(t: TaskView): Fields {
  const info = t.executionInfo
  return [
    ['task', `${t.jobId}/${t.id}`],
    ['name', t.displayName],
    ['state', `${t.state}${t.phase === undefined ? '' : ` (${t.phase})`} since ${showTime(t.stateTransitionTime)}`],
    ['result', info.result],
    ['exit code', info.exitCode],
    ['failure', info.failureInfo && failureText(info.failureInfo)],
    ['command', whatRuns(t)],
    ['instances', instances(t)],
    ['machine', t.nodeInfo === undefined ? undefined : `${t.nodeInfo.machineName} (pool ${t.nodeInfo.poolId}, node ${t.nodeInfo.nodeId})`],
    ['directory', t.nodeInfo?.taskRootDirectory],
    ['started', showTime(info.startTime)],
    ['ended', info.endTime === undefined ? undefined : `${showTime(info.endTime)} (took ${took(t)})`],
    ['runs again', `${info.retryCount} after failures, ${info.requeueCount} for other reasons`],
    [
      'attempts',
      t.attempts
        .map((a) => `${a.epoch}: ${a.end ?? 'running'}${a.exitCode === undefined ? '' : ` (exit ${a.exitCode})`} on ${a.nodeId}`)
        .join('\n'),
    ],
    ['outputs', t.outputs.map((o) => `${o.path}  ${o.blob}`).join('\n')],
    ['stderr', t.stderrTail?.trimEnd()],
  ]
}

function list(group: Command, context: Context): void {
  const command = group
    .command('list')
    .description('Lists the tasks of a job.')
    .argument('[job]')
    .option('--job-id <id>')
    .addOption(new Option('--state <state>').choices(['active', 'preparing', 'running', 'completed']))
    .addOption(new Option('--result <result>').choices(['success', 'failure']))
    .option('--limit <number>', 'at most so many')
    .addHelpText('after', '\nExample:\n  batchmesh task list render --result failure')
  context.action<{ jobId?: string; state?: TaskState; result?: 'success' | 'failure'; limit?: string }>(
    command,
    async (options, [word]) => {
      const jobId = given(options.jobId ?? word, 'job')
      const limit = integer(options.limit, '--limit', 1) ?? Number.POSITIVE_INFINITY
      const mesh = await context.mesh()
      const tasks: TaskView[] = []
      let after: string | undefined
      do {
        const page = await mesh.control.call('listTasks', {
          jobId,
          state: options.state,
          result: options.result,
          after,
          limit: Math.min(1000, limit - tasks.length),
        })
        tasks.push(...page.items)
        after = page.next
      } while (after !== undefined && tasks.length < limit)
      await context.list(columns, tasks)
    },
  )
}

interface CreateOptions extends FunctionOptions {
  jobId?: string
  id?: string
  taskId?: string
  commandLine?: string
  jsonFile?: string
  array?: string
  idPrefix?: string
  environmentSettings?: string[]
  resourceFiles?: string[]
  outputs?: string[]
  maxTaskRetryCount?: string
  maxWallClockTime?: string
  retentionTime?: string
  dependsOn?: string
  requiredSlots?: string
  cpus?: string
  memory?: string
  gpus?: string
  label?: string[]
}

function create(group: Command, context: Context): void {
  const command = group
    .command('create')
    .description('Adds a task to a job, or those of a JSON file.')
    .argument('[task]', 'JOB/TASK; with --json-file or --array JOB')
    .option('--job-id <id>')
    .option('--task-id <id>')
    .option('--id <id>', 'the same as --task-id')
    .option('--command-line <line>', 'program and arguments; there is no shell: for pipes and variables write sh -c "…"')
    .option('--module <file>', 'instead of a command: a module of TypeScript or JavaScript, one of whose functions is called')
    .option('--export <name>', 'with --module: which function, default the default export')
    .option('--args <json>', 'with --module: an array of its arguments, such as \'[1, "a"]\', or @FILE')
    .option('--environment-settings <name=value...>')
    .option('--resource-files <name=source...>', 'files for the working directory: a local path, an http(s) URL or a blob id')
    .option('--outputs <pattern>', 'files to keep, such as "*.png"; may repeat', collect)
    .option('--max-task-retry-count <number>', 'runs again after a failure; -1 endlessly')
    .option('--max-wall-clock-time <duration>', 'ends the task after this, such as 15m or PT15M')
    .option('--retention-time <duration>', 'how long its directory stays, default 7d')
    .option('--depends-on <ids>', 'tasks that must succeed first: ids and ranges, such as prep,1-100')
    .option('--required-slots <number>', 'task slots that it takes, default 1')
    .option('--cpus <number>')
    .option('--memory <amount>', 'such as 4GiB')
    .option('--gpus <number>')
    .option('--label <name=value>', 'only on machines with this label; may repeat', collect)
    .option('--array <indexes>', 'many tasks, one a number: 0-999, 0-999:2, 1,5,9; {index} is the number, {index:05} with zeros')
    .option('--id-prefix <text>', 'with --array: in front of the number in the ids of the tasks')
    .option('--json-file <file>', 'one task or an array, in Azure’s shape; - for standard input')
    .addHelpText(
      'after',
      `
Examples:
  batchmesh task create render/0042 --command-line 'povray +Iscene.pov' --resource-files scene.pov=./scene.pov --outputs '*.png'
  batchmesh task create render --array 0-999:2 --command-line 'povray +Iscene.pov +K{index} +Oframe{index:04}.png' --outputs '*.png'
  batchmesh task create render/sum --module ./work.ts --export sum --args '[[1, 2, 3]]'
  batchmesh task create render --json-file tasks.json`,
    )
  context.action<CreateOptions>(command, async (options, [word]) => {
    const ranges = options.array === undefined ? undefined : parseArray(options.array)
    const { jobId, tasks } = await tasksOf(word, options, context)
    const mesh = await context.mesh()
    const { addTasks } = await import('../mesh/submit.ts')
    const functions = await Functions.of(tasks, context.world.cwd)
    const uploaded = await functions.send(mesh, await uploadLocal(mesh, functions.unsent(tasks), context))
    const specs = uploaded.map(checkTask)
    for (const { commandLine, thread } of specs.slice(0, 1)) {
      if (thread !== undefined) break
      const hint = shellHint(commandLine)
      if (hint !== undefined) context.say(`hint: ${hint}`)
    }
    if (ranges !== undefined) {
      const { addArray, arrayOf } = await import('./task-array.ts')
      const added = await addArray(mesh, jobId, arrayOf(ranges, options.idPrefix, uploaded[0]!))
      const { count, firstTaskId, lastTaskId } = added
      await context.done(`${count} tasks, ${jobId}/${firstTaskId} to ${lastTaskId}.`, { jobId, ...added })
      return
    }
    await addTasks(mesh, jobId, specs)
    await context.list(
      [{ title: 'id', value: (id: string) => id }],
      specs.map(({ id }) => `${jobId}/${id}`),
    )
  })
}

/** With --array the ids are made of the numbers; the one given here stands for them until then. */
function refOf(word: string | undefined, options: CreateOptions): { jobId: string; taskId: string } {
  const taskId = options.taskId ?? options.id
  if (options.array === undefined) {
    if (options.idPrefix === undefined) return taskRef(word, { jobId: options.jobId, taskId })
    throw new MeshError('InvalidPropertyValue', '--id-prefix belongs to --array.')
  }
  const jobId = given(options.jobId ?? word, 'job')
  if (taskId !== undefined || jobId.includes('/'))
    throw new MeshError(
      'InvalidPropertyValue',
      'With --array name the job only: the ids of its tasks are the numbers. --id-prefix puts a text in front.',
    )
  return { jobId, taskId: 'array' }
}

async function tasksOf(
  word: string | undefined,
  options: CreateOptions,
  context: Context,
): Promise<{ jobId: string; tasks: JsonObject[] }> {
  if (options.jsonFile !== undefined) {
    if (options.commandLine !== undefined || options.module !== undefined)
      throw new MeshError('InvalidPropertyValue', 'Give --json-file without --command-line and --module.')
    if (options.array !== undefined) throw new MeshError('InvalidPropertyValue', 'Give either --json-file or --array.')
    const tasks = tasksFromJson(await readJson(options.jsonFile, context.world))
    return { jobId: given(options.jobId ?? word, 'job'), tasks }
  }
  const ref = refOf(word, options)
  const resources = {
    cores: positive(options.cpus, '--cpus'),
    memoryMiB: options.memory === undefined ? undefined : memoryMiB(options.memory),
    gpus: integer(options.gpus, '--gpus', 0),
    labels: options.label === undefined ? undefined : Object.fromEntries(pairs(options.label, '--label')),
  }
  const task: JsonObject = {
    id: ref.taskId,
    ...(await programOf(options, context.world.cwd)),
    environmentSettings: pairs(options.environmentSettings, '--environment-settings').map(([name, value]) => ({ name, value })),
    resourceFiles: pairs(options.resourceFiles, '--resource-files').map(([filePath, source]) => resourceFile(filePath, source)),
    outputFiles: options.outputs?.map((filePattern) => ({ filePattern })),
    constraints: {
      maxTaskRetryCount: integer(options.maxTaskRetryCount, '--max-task-retry-count', -1),
      maxWallClockTimeMs:
        options.maxWallClockTime === undefined ? undefined : durationMs(options.maxWallClockTime, '--max-wall-clock-time'),
      retentionTimeMs: options.retentionTime === undefined ? undefined : durationMs(options.retentionTime, '--retention-time'),
    },
    dependsOn: options.dependsOn === undefined ? undefined : parseDependencies(options.dependsOn),
    requiredSlots: integer(options.requiredSlots, '--required-slots', 1, 256),
    resources: Object.values(resources).some((value) => value !== undefined) ? resources : undefined,
  }
  return { jobId: ref.jobId, tasks: [task] }
}

async function programOf(options: CreateOptions, cwd: string): Promise<JsonObject> {
  if (options.module === undefined) {
    const lone = options.export !== undefined ? '--export' : options.args !== undefined ? '--args' : undefined
    if (lone !== undefined) throw new MeshError('InvalidPropertyValue', `${lone} belongs to --module.`)
    return { commandLine: given(options.commandLine, 'command with --command-line, or a module with --module') }
  }
  if (options.commandLine !== undefined) throw new MeshError('InvalidPropertyValue', 'Give either --module or --command-line.')
  return { thread: await threadOf(options, cwd) }
}

function resourceFile(filePath: string, source: string): JsonObject {
  if (/^https?:\/\//.test(source)) return { filePath, httpUrl: source }
  return blobIdSchema.safeParse(source).success ? { filePath, blob: source } : { filePath, [localFileProperty]: source }
}

/** Puts blobs in the place of local files. Everything else of the tasks is checked before the first byte is sent. */
async function uploadLocal(mesh: Mesh, tasks: JsonObject[], context: Context): Promise<JsonObject[]> {
  const anyBlob = `b${'a'.repeat(58)}`
  const sources = new Set<string>()
  const blobs = new Map<string, string>()
  const blobOf = ({ [localFileProperty]: local, ...file }: JsonObject): JsonObject => {
    if (local === undefined) return file
    if (typeof local !== 'string') throw new MeshError('InvalidPropertyValue', `${localFileProperty} must be a path.`)
    sources.add(local)
    return { ...file, blob: blobs.get(local) ?? anyBlob }
  }
  for (const task of tasks) checkTask(withFiles(task, blobOf))
  if (sources.size > 0) {
    const [{ Uploader }, { interruptible }] = await Promise.all([import('../mesh/blobs.ts'), import('./interrupt.ts')])
    await interruptible(context.world, async (signal) => {
      const uploader = new Uploader(mesh, { signal })
      for (const source of sources) blobs.set(source, (await uploader.put(resolve(context.world.cwd, source))).id)
    })
  }
  return tasks.map((task) => withFiles(task, blobOf))
}

/** A task with others in the place of its resource files, those for all members of a multi-instance task too. */
function withFiles(task: JsonObject, change: (file: JsonObject) => JsonObject): JsonObject {
  const { resourceFiles, multiInstanceSettings } = task as { resourceFiles?: JsonObject[]; multiInstanceSettings?: JsonObject }
  const common = multiInstanceSettings?.commonResourceFiles as JsonObject[] | undefined
  return {
    ...task,
    ...(resourceFiles === undefined ? {} : { resourceFiles: resourceFiles.map(change) }),
    ...(common === undefined ? {} : { multiInstanceSettings: { ...multiInstanceSettings, commonResourceFiles: common.map(change) } }),
  }
}
