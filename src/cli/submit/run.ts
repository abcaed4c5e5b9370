/** One `batchmesh submit`: uploads a script and what it needs, and adds it as a job. */
import { hostname } from 'node:os'
import { basename } from 'node:path'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import { jobSpecSchema } from '../../../protocols/model/job.ts'
import { defaultPoolId, poolSpecSchema } from '../../../protocols/model/pool.ts'
import { labelsMatch } from '../../../protocols/model/resources.ts'
import type { ResourceFile } from '../../../protocols/model/task.ts'
import { putStream, Uploader } from '../../mesh/blobs.ts'
import type { Mesh } from '../../mesh/client.ts'
import { addTasks } from '../../mesh/submit.ts'
import type { Context } from '../context.ts'
import { interruptible } from '../interrupt.ts'
import type { StagedShared } from '../run/inputs.ts'
import { madeUpRetentionMs } from '../run/names.ts'
import { waitForJob } from '../run/wait.ts'
import { type Files, type Places, placesOf, submitArray, submitJob, submitTask } from './plan.ts'
import { kitDirectory, launcher, srun } from './programs.ts'
import type { Settings } from './settings.ts'

export interface SubmitOptions {
  script: { path: string; text: string; args: readonly string[] }
  settings: Settings
  shared: readonly StagedShared[]
  outputs: readonly string[]
  to: string | undefined
  parsable: boolean
  quiet: boolean
}

/** Metadata that tells whether a job of this number is this command's own. */
const markName = 'batchmesh.submit'
/** From here numbers of jobs count seconds, so that they rise, as Slurm's do, and stay below 2^31 for decades. */
const numbersBegin = Date.UTC(2026, 0, 1)

/** Answers the exit code. */
export async function submit(context: Context, mesh: Mesh, options: SubmitOptions): Promise<number> {
  const { settings } = options
  const jobId = await interruptible(context.world, (signal) => send(context, mesh, options, signal))
  if (!settings.waits) return 0
  // As sbatch --wait: the exit code of the script, of an array the highest.
  let highest = 0
  const { to, quiet } = options
  const code = await waitForJob(context, jobId, {
    ...(to === undefined ? {} : { to }),
    logsTo: to ?? '.',
    quiet: quiet || options.parsable,
    onEnded: ({ exitCode = 0 }) => {
      highest = Math.max(highest, exitCode & 0xff)
    },
  })
  return code === 1 && highest > 0 ? highest : code
}

async function send(context: Context, mesh: Mesh, options: SubmitOptions, signal: AbortSignal): Promise<string> {
  const { script, settings, outputs } = options
  const { poolId, array } = settings
  const { items } = await mesh.control.call('listMachines', {}, { signal })
  const pool = poolId === undefined || poolId === defaultPoolId ? undefined : await mesh.control.call('getPool', { poolId }, { signal })
  const machines = items.filter(({ labels, connected }) => connected && labelsMatch(labels, pool?.labels))
  // Before anything is sent: what the mesh cannot have is said, and nothing is left behind.
  placesOf(settings, machines, pool, 'job')
  for (const { jobId } of settings.dependencies) await mesh.control.call('getJob', { jobId }, { signal })
  const files = await upload(mesh, options, signal)
  const added = await addJob(mesh, signal, (jobId, mark) => {
    const places = placesOf(settings, machines, pool, jobId)
    return { places, job: jobSpecSchema.parse(submitJob(jobId, settings, places, { mark, retentionTimeMs: madeUpRetentionMs })) }
  })
  const { jobId, places } = added
  try {
    const call = { signal, persist: true }
    if (places.pool !== undefined) await addPool(mesh, places.pool, signal)
    const named = { name: basename(script.path), args: script.args }
    if (array === undefined)
      await addTasks(mesh, jobId, [submitTask(jobId, named, settings, places, files, hostname())], { signal, isOwnJob: true })
    else {
      const tasks = submitArray(jobId, named, settings, places, files, hostname())
      await mesh.control.call('addTaskArray', { jobId, array: tasks }, call).catch((error: unknown) => {
        // The job is this command's own: what is there was added by a request whose answer was lost.
        if (!(error instanceof MeshError) || error.code !== 'TaskExists') throw error
      })
    }
    await mesh.control.call('updateJob', { jobId, onAllTasksComplete: 'terminatejob' }, call)
  } catch (error) {
    await mesh.control.call('terminateJob', { jobId, terminateReason: 'SubmissionFailed' }).catch((other: unknown) => {
      context.say(`batchmesh: job ${jobId} could not be stopped: ${toMeshError(other).message}`)
    })
    throw error
  }
  await said(context, jobId, places, options, outputs)
  return jobId
}

async function said(context: Context, jobId: string, { size }: Places, options: SubmitOptions, outputs: readonly string[]): Promise<void> {
  const { settings, parsable, quiet } = options
  const { waits } = settings
  // With --wait a program is told of the end, in one object.
  if (context.isForPeople) await context.world.stdout.write(parsable ? `${jobId}\n` : `Submitted batch job ${jobId}\n`)
  else if (!waits) await context.done(jobId, { jobId, nodes: size.nodes, ntasks: size.ranks, outputs: outputs.join(' ') })
  if (quiet || parsable || waits) return
  context.say(
    `Its output: batchmesh task logs ${jobId}/${taskName(settings)} -f; its files, at the end: batchmesh job wait ${jobId} --to DIR`,
  )
}

function taskName({ array }: Settings): string {
  return array === undefined ? 'batch' : 'INDEX'
}

async function addPool(mesh: Mesh, pool: NonNullable<Places['pool']>, signal: AbortSignal): Promise<void> {
  await mesh.control.call('addPool', poolSpecSchema.parse(pool), { signal, persist: true }).catch((error: unknown) => {
    if (!(error instanceof MeshError) || error.code !== 'PoolExists') throw error
  })
}

/** Adds the job under the next number that is free. */
async function addJob<P>(
  mesh: Mesh,
  signal: AbortSignal,
  make: (jobId: string, mark: { name: string; value: string }) => { job: ReturnType<typeof jobSpecSchema.parse>; places: P },
): Promise<{ jobId: string; places: P }> {
  const mark = { name: markName, value: crypto.randomUUID() }
  for (let number = Math.floor((Date.now() - numbersBegin) / 1000); ; number += 1) {
    const jobId = String(number)
    const { job, places } = make(jobId, mark)
    try {
      await mesh.control.call('addJob', job, { signal, persist: true })
      return { jobId, places }
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== 'JobExists') throw error
      // A repeated request whose first answer was lost finds its own job.
      const other = await mesh.control.call('getJob', { jobId }, { signal, persist: true }).catch(() => undefined)
      if (other?.metadata?.some(({ name, value }) => name === mark.name && value === mark.value)) return { jobId, places }
    }
  }
}

async function upload(mesh: Mesh, { script, shared, outputs }: SubmitOptions, signal: AbortSignal): Promise<Files> {
  const put = async (path: string, text: string): Promise<ResourceFile> => {
    const bytes = new TextEncoder().encode(text)
    const pieces = (async function* () {
      yield bytes
    })()
    const { id } = await putStream(mesh, pieces, { signal, size: bytes.length })
    return { filePath: `${kitDirectory}/${path}`, blob: id, shared: true }
  }
  const kit = [await put('launch', launcher), await put('bin/srun', srun), await put(`script/${basename(script.path)}`, script.text)]
  const uploader = new Uploader(mesh, { signal })
  const staged: ResourceFile[] = []
  for (const { path, source } of shared) staged.push({ filePath: path, blob: (await uploader.put(source)).id, shared: true })
  return { kit, shared: staged, outputs }
}
