/** One `batchmesh mpi run`, from the look for machines to the exit code of the program. */
import type { TaskEvent } from '../../../protocols/control.ts'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import type { MpiFlavor } from '../../../protocols/model/machine.ts'
import { mpiName } from '../../../protocols/model/machine.ts'
import { poolSpecSchema } from '../../../protocols/model/pool.ts'
import { labelsMatch } from '../../../protocols/model/resources.ts'
import { failureName, type ResourceFile, type TaskSpec } from '../../../protocols/model/task.ts'
import { Uploader } from '../../mesh/blobs.ts'
import type { Mesh } from '../../mesh/client.ts'
import { addTasks } from '../../mesh/submit.ts'
import type { Context } from '../context.ts'
import { showDuration } from '../format.ts'
import { hintOf } from '../run/hints.ts'
import type { StagedShared } from '../run/inputs.ts'
import { makeProgress } from '../run/progress.ts'
import { Results } from '../run/results.ts'
import { explainSilence } from '../run/silence.ts'
import { type Choice, chooseInPool, chooseNodes } from './choose.ts'
import type { Asked } from './size.ts'
import { type MpiRequest, mpiJob, mpiTask, mpiTaskId, temporaryPool } from './spec.ts'
import { printTask } from './stream.ts'

export interface MpiRunOptions {
  request: MpiRequest
  asked: Asked
  flavor: MpiFlavor | undefined
  shared: readonly StagedShared[]
  labels: Record<string, string> | undefined
  /** A pool that is there; undefined: a temporary one. */
  poolId: string | undefined
  jobId: string
  /** The id was made up by this command, so a job of this name can only be its own. */
  isOwnId: boolean
  /** The job is deleted so long after its end; undefined: never. */
  retentionTimeMs: number | undefined
  to: string | undefined
  detach: boolean
  quiet: boolean
}

type Chosen = Omit<Choice, 'dedicated' | 'lowPriority'> & Partial<Choice>

export class MpiRun {
  readonly #context: Context
  readonly #mesh: Mesh
  readonly #options: MpiRunOptions
  readonly #abort = new AbortController()
  readonly #ref: { jobId: string; taskId: string }
  /** A job may be there that only this program can end. */
  #isSubmitted = false

  constructor(context: Context, mesh: Mesh, options: MpiRunOptions) {
    this.#context = context
    this.#mesh = mesh
    this.#options = options
    this.#ref = { jobId: options.jobId, taskId: mpiTaskId }
  }

  /** Answers the exit code: that of the program. */
  async execute(): Promise<number> {
    const { world } = this.#context
    const unhook = world.onInterrupt(() => (this.#abort.signal.aborted ? world.exit(130) : this.#abort.abort()))
    try {
      const chosen = await this.#choose()
      this.#tell(`${sizeWords(chosen)}${chosen.isFree ? '' : '; its nodes are in use and are waited for'}`)
      const spec = mpiTask(this.#options.request, chosen.size, chosen.mpi.flavor, await this.#upload())
      await this.#submit(chosen, spec)
      if (this.#options.detach) return await this.#detached()
      return await this.#watch(chosen, spec)
    } catch (error) {
      const { aborted } = this.#abort.signal
      await this.#giveUp(aborted ? 'UserTerminate' : 'SubmissionFailed')
      if (!aborted) throw error
      const { jobId } = this.#options
      this.#context.say(
        this.#isSubmitted ? `batchmesh: interrupted; job ${jobId} is being stopped` : 'batchmesh: interrupted; nothing was submitted',
      )
      return 130
    } finally {
      unhook()
    }
  }

  #tell(line: string): void {
    if (!this.#options.quiet) this.#context.say(line)
  }

  async #choose(): Promise<Chosen> {
    const { asked, flavor, labels, poolId } = this.#options
    const { signal } = this.#abort
    const { items: machines } = await this.#mesh.control.call('listMachines', {}, { signal })
    if (poolId === undefined) {
      const fitting = machines.filter((machine) => labelsMatch(machine.labels, labels))
      return chooseNodes(fitting, asked, flavor)
    }
    const [pool, nodes] = await Promise.all([
      this.#mesh.control.call('getPool', { poolId }, { signal }),
      this.#mesh.control.call('listNodes', { poolId }, { signal }),
    ])
    return chooseInPool(pool, nodes.items, machines, asked, flavor)
  }

  async #upload(): Promise<ResourceFile[]> {
    const { shared, quiet } = this.#options
    const progress = makeProgress(this.#context.world, quiet)
    const { signal } = this.#abort
    try {
      progress.upload(shared.reduce((sum, { files }) => sum + files.reduce((total, { size }) => total + size, 0), 0))
      const uploader = new Uploader(this.#mesh, { signal, onBytes: (bytes) => progress.uploaded(bytes) })
      const staged: ResourceFile[] = []
      for (const { path, source } of shared) staged.push({ filePath: path, blob: (await uploader.put(source)).id, shared: true })
      return staged
    } finally {
      progress.stop()
    }
  }

  /** The job comes before its pool, which goes when no job is left, and the task last. */
  async #submit(chosen: Chosen, spec: TaskSpec): Promise<void> {
    const { jobId, poolId, isOwnId, labels, request, retentionTimeMs } = this.#options
    const call = { signal: this.#abort.signal, persist: true }
    // A request that was repeated because its first answer was lost finds what it has made.
    const isOwn = (error: unknown, code: string) => {
      if (!isOwnId || !(error instanceof MeshError) || error.code !== code) throw error
    }
    this.#isSubmitted = isOwnId
    await this.#mesh.control
      .call('addJob', mpiJob(jobId, poolId ?? jobId, retentionTimeMs), call)
      .catch((error: unknown) => isOwn(error, 'JobExists'))
    this.#isSubmitted = true
    if (poolId === undefined) {
      const { size, mpi, dedicated = 0, lowPriority = 0 } = chosen
      const pool = temporaryPool(jobId, { size, mpi, dedicated, lowPriority }, { memoryMiB: request.memoryMiB, labels })
      await this.#mesh.control.call('addPool', poolSpecSchema.parse(pool), call).catch((error: unknown) => isOwn(error, 'PoolExists'))
    }
    await addTasks(this.#mesh, jobId, [spec], { signal: this.#abort.signal, isOwnJob: true })
    await this.#mesh.control.call('updateJob', { jobId, onAllTasksComplete: 'terminatejob' }, call)
  }

  /** Ends the job; with it goes its pool. */
  async #giveUp(terminateReason: string): Promise<void> {
    const { jobId } = this.#options
    if (!this.#isSubmitted) return
    try {
      await this.#mesh.control.call('terminateJob', { jobId, terminateReason })
    } catch (error) {
      const { code, message } = toMeshError(error)
      if (code !== 'JobNotFound' && code !== 'JobCompleted') this.#context.say(`batchmesh: job ${jobId} could not be stopped: ${message}`)
    }
  }

  async #detached(): Promise<number> {
    const { jobId } = this.#options
    await this.#context.done(jobId, this.#ref)
    this.#tell(`The program goes on by itself. What it prints: batchmesh task logs ${jobId}/${mpiTaskId} -f`)
    return 0
  }

  async #watch(chosen: Chosen, spec: TaskSpec): Promise<number> {
    const { jobId } = this.#options
    const { signal } = this.#abort
    const results = this.#results(spec)
    const printer = new Printer(this.#context, this.#mesh, this.#ref, this.#options.request.isTagged, signal)
    const silence = explainSilence(this.#mesh, this.#ref, (line) => this.#context.say(line))
    const began = Date.now()
    let started: number | undefined
    let ended: TaskEvent | undefined
    try {
      for await (const { events, counts, jobState } of this.#mesh.watchJob(jobId, signal)) {
        silence.counts(counts)
        const isRunning = counts.running > 0 && events.every(({ state }) => state !== 'active')
        for (const event of events) {
          if (event.state === 'completed') ended ??= event
          else if (event.attemptEnd !== undefined) {
            printer.again()
            started = undefined
            this.#context.say(`batchmesh: ${againWords(event)}; the program starts again from its beginning`)
          }
        }
        if (isRunning && started === undefined) {
          started = Date.now()
          this.#tell(`started after ${showDuration(started - began)}`)
          printer.start()
        }
        if (ended !== undefined) break
        // Ended before the program ran: of one that did, the end is on its way.
        if ((jobState === 'completed' || jobState === 'deleting') && counts.completed === 0) break
      }
    } finally {
      silence.stop()
    }
    await printer.end()
    if (ended !== undefined) results.add(ended)
    await results.settled()
    signal.throwIfAborted()
    return await this.#report(chosen, ended, results, [...results.problems, ...printer.problems], Date.now() - (started ?? began))
  }

  #results(spec: TaskSpec): Results {
    return new Results(this.#mesh, {
      jobId: this.#options.jobId,
      world: this.#context.world,
      signal: this.#abort.signal,
      directory: () => this.#options.to,
      expected: () => ({ patterns: (spec.outputFiles ?? []).map(({ filePattern }) => filePattern), before: new Map() }),
      printsStdout: () => false,
      printsStderr: () => false,
      onPrint: () => {},
    })
  }

  async #report(
    { size, mpi }: Chosen,
    ended: TaskEvent | undefined,
    results: Results,
    problems: readonly string[],
    tookMs: number,
  ): Promise<number> {
    const { jobId, poolId, request } = this.#options
    const context = this.#context
    const { result, exitCode, failureInfo, stderrTail } = ended ?? {}
    if (!context.isForPeople)
      await context.one(
        [
          ['job', jobId],
          ['ranks', size.ranks],
          ['nodes', size.nodes],
          ['mpi', mpiName(mpi)],
          ['result', result],
          ['exitCode', exitCode],
        ],
        {
          ...this.#ref,
          poolId,
          ranks: size.ranks,
          nodes: size.nodes,
          mpi,
          result,
          exitCode,
          failureInfo,
          stderrTail,
          outputs: results.outputs,
          problems,
        },
      )
    for (const problem of problems) context.say(`batchmesh: ${problem}`)
    if (ended === undefined) context.say('batchmesh: the job was ended before the program ran')
    else if (failureInfo !== undefined && failureName(failureInfo) !== 'FailureExitCode')
      context.say(`batchmesh: ${failureName(failureInfo)}: ${failureInfo.message}`)
    const hint = hintOf(stderrTail)
    if (hint !== undefined) context.say(`batchmesh: ${hint}`)
    const { written } = results
    const files = written === 0 ? '' : `, ${written} ${written === 1 ? 'file' : 'files'} written`
    if (request.isTrial && result === 'success') this.#tell(`All ${size.ranks} ranks started.`)
    this.#tell(`${exitCode === undefined ? 'not run' : `exit code ${exitCode}`} after ${showDuration(tookMs)}${files} (job ${jobId})`)
    if (result === 'success') return problems.length > 0 ? 1 : 0
    // What the shell would make of it: a code of 0 or none at all is no success here.
    return exitCode === undefined || (exitCode & 0xff) === 0 ? 1 : exitCode & 0xff
  }
}

/** Prints a task's output while it runs, anew for each of its attempts. */
class Printer {
  readonly problems: string[] = []
  readonly #print: (signal: AbortSignal) => Promise<void>
  readonly #signal: AbortSignal
  #stop = new AbortController()
  #printing: Promise<void> | undefined

  constructor(context: Context, mesh: Mesh, ref: { jobId: string; taskId: string }, isTagged: boolean, signal: AbortSignal) {
    const isShown = context.isForPeople
    this.#print = async (stop) => {
      if (isShown) await printTask(mesh, context.world, ref, { isTagged, signal: stop })
    }
    this.#signal = signal
  }

  start(): void {
    const stop = new AbortController()
    this.#stop = stop
    this.#printing ??= this.#print(AbortSignal.any([this.#signal, stop.signal])).catch((error: unknown) => {
      if (!this.#signal.aborted && !stop.signal.aborted)
        this.problems.push(`what the program printed cannot be read: ${toMeshError(error).message}`)
    })
  }

  /** The attempt has ended, and another comes. */
  again(): void {
    this.#stop.abort()
    this.#printing = undefined
  }

  /** Resolves when all is printed. */
  async end(): Promise<void> {
    this.start()
    await this.#printing
  }
}

function againWords({ attemptEnd, machineName, exitCode, failureInfo }: TaskEvent): string {
  if (attemptEnd === 'failure') return exitCode === undefined ? 'it failed' : `exit code ${exitCode}`
  if (failureInfo !== undefined) return failureInfo.message.replace(/\.$/, '')
  return `a machine of the gang was ${attemptEnd === 'preempted' ? 'taken away' : 'lost'}${machineName === undefined ? '' : ` (rank 0 ran on ${machineName})`}`
}

function sizeWords({ size, mpi }: Chosen): string {
  const many = (count: number, what: string) => `${Math.round(count * 100) / 100} ${what}${count === 1 ? '' : 's'}`
  return `${many(size.ranks, 'rank')} on ${many(size.nodes, 'node')} of ${many(size.cores, 'core')}, ${mpiName(mpi)}`
}
