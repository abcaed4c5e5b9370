/** A node and coordinator in memory that speak the real protocols and really run the commands, for tests of the command line. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { controlProtocol, type MeshStatus, type TaskEvent } from '../../protocols/control.ts'
import { MeshError } from '../../protocols/errors.ts'
import type { JobSpec, JobView } from '../../protocols/model/job.ts'
import type { MachineView } from '../../protocols/model/machine.ts'
import type { PoolSpec } from '../../protocols/model/pool.ts'
import type { OutputEntry, TaskSpec, TaskView } from '../../protocols/model/task.ts'
import { arrayTask, countOf, type TaskArray } from '../../protocols/model/task-array.ts'
import { type CloneValue, maxInlineValueBytes, type ThreadError, type ThreadTask } from '../../protocols/model/thread-task.ts'
import { type CallHandlers, serverSession } from '../../protocols/rpc.ts'
import type { Channel } from '../../protocols/wire.ts'
import type { OpenChannel } from '../../src/mesh/sessions.ts'
import { channelPair } from './channel-pair.ts'
import { blobIdOf, type FakeBlobs, laptop, localCalls } from './fake-local.ts'
import { runCommand, stage } from './fake-run.ts'
import { meshStatus, poolView } from './fake-status.ts'

export interface FakeTask {
  spec: TaskSpec
  state: 'active' | 'running' | 'completed'
  exitCode?: number
  outputs: OutputEntry[]
  stdout: Buffer
  stderr: Buffer
  threadResult?: CloneValue
  threadError?: ThreadError
}
interface FakeJob {
  spec: JobSpec
  uid: number
  state: 'active' | 'completed'
  reason?: string
  tasks: Map<string, FakeTask>
}

type ControlCalls = CallHandlers<(typeof controlProtocol)['server']>

export class FakeMesh implements FakeBlobs {
  readonly jobs = new Map<string, FakeJob>()
  readonly pools = new Map<string, PoolSpec>()
  /** Who submitted all jobs. */
  submitter = laptop.peer
  /** What this machine's node says of itself. */
  status = laptop
  /** What the coordinator says of the mesh. */
  meshStatus: MeshStatus = meshStatus
  machines: MachineView[] = []
  readonly blobs = new Map<string, Buffer>()
  readonly trees = new Map<string, { path: string; id: string; size: number }[]>()
  /** Requests in the order they came, by name. */
  readonly asked: string[] = []
  /** Handles of uploads that were begun and neither ended nor aborted. */
  readonly openUploads = new Map<number, Buffer[]>()
  /** Tasks wait until this resolves. */
  gate: Promise<void> = Promise.resolve()
  /** A task waits until what this answers resolves. */
  gateOf: (taskId: string) => Promise<void> | undefined = () => undefined
  /** Called before a request is answered; may throw. */
  onCall: (name: string, request: unknown) => void | Promise<void> = () => {}
  /** What a machine says that a task made; a dishonest one says something else. */
  reported: (outputs: OutputEntry[]) => OutputEntry[] = (outputs) => outputs
  /** Answers of its own for some calls. */
  extra: Partial<ControlCalls> = {}
  /** Whether the coordinator is of a version that takes task arrays. */
  knowsArrays = true
  /** What watches show of a task before it is completed. */
  eventsOf: (taskId: string) => readonly (Partial<TaskEvent> & Pick<TaskEvent, 'state'>)[] = () => [{ state: 'running' }]
  /** Where tasks find their programs. */
  path = process.env.PATH ?? ''
  /** Tasks in one page of a list. */
  pageSize = 1000
  /** Where a task's standard output is gone, whatever it was. */
  textsAreGone = false
  /** While set, control sessions are refused with it. */
  down: MeshError | undefined
  readonly #channels = new Set<Channel>()
  readonly #watches = new Map<string, Set<{ watchId: number; send: (events: TaskEvent[]) => void }>>()
  readonly #root = mkdtempSync(join(tmpdir(), 'batchmesh-fake-'))
  #count = 0

  readonly open: OpenChannel = async (service) => {
    if (this.down !== undefined) throw this.down
    const [near, far] = channelPair()
    this.#channels.add(far)
    if (service.protocol === controlProtocol.protocol) this.#serveControl(far)
    else localCalls(this, far)
    return near
  }

  /** Ends every session, as a crash does; sessions are refused until {@link revive}. */
  crash(): void {
    this.down = new MeshError('NoCoordinator')
    for (const channel of this.#channels) channel.close('lost')
    this.#channels.clear()
    this.#watches.clear()
  }

  revive(): void {
    this.down = undefined
  }

  close(): void {
    for (const channel of this.#channels) channel.close()
    rmSync(this.#root, { recursive: true, force: true })
  }

  addBlob(data: Buffer): string {
    const id = blobIdOf(data)
    this.blobs.set(id, data)
    return id
  }

  async note(name: string, request: unknown): Promise<void> {
    this.asked.push(name)
    await this.onCall(name, request)
  }

  #job(jobId: string): FakeJob {
    const job = this.jobs.get(jobId)
    if (job === undefined) throw new MeshError('JobNotFound', `There is no job ${jobId}.`)
    return job
  }

  #pool(poolId: string): PoolSpec {
    const pool = this.pools.get(poolId)
    if (pool === undefined) throw new MeshError('PoolNotFound', `There is no pool ${poolId}.`)
    return pool
  }

  #task(jobId: string, taskId: string): FakeTask {
    const task = this.#job(jobId).tasks.get(taskId)
    if (task === undefined) throw new MeshError('TaskNotFound', `There is no task ${taskId}.`)
    return task
  }

  #serveControl(channel: Channel): void {
    const calls: Partial<ControlCalls> = {
      status: () => this.meshStatus,
      listMachines: () => ({ items: this.machines }),
      addPool: (spec) => {
        if (this.pools.has(spec.id)) throw new MeshError('PoolExists', `There is a pool ${spec.id} already.`)
        this.pools.set(spec.id, spec)
        return poolView(spec)
      },
      getPool: ({ poolId }) => poolView(this.#pool(poolId)),
      addJob: (spec) => {
        if (this.jobs.has(spec.id)) throw new MeshError('JobExists', `There is a job ${spec.id} already.`)
        this.#count += 1
        this.jobs.set(spec.id, { spec, uid: this.#count, state: 'active', tasks: new Map() })
        return this.view(spec.id)
      },
      getJob: ({ jobId }) => this.view(jobId),
      listJobs: () => ({ items: [...this.jobs.keys()].map((id) => this.view(id)) }),
      updateJob: ({ jobId, onAllTasksComplete }) => {
        this.#job(jobId).spec.onAllTasksComplete = onAllTasksComplete ?? 'noaction'
        this.#maybeEnd(jobId)
        return this.view(jobId)
      },
      deleteJob: ({ jobId }) => {
        this.#job(jobId)
        this.jobs.delete(jobId)
        return {}
      },
      terminateJob: ({ jobId, terminateReason }) => this.end(jobId, terminateReason),
      addTasks: ({ jobId, tasks }) => ({ results: this.#add(jobId, tasks) }),
      addTaskArray: ({ jobId, array }) => {
        if (!this.knowsArrays) throw new MeshError('UnsupportedVersion', 'This peer does not know the request addTaskArray.')
        return this.addArray(jobId, array)
      },
      reactivateTask: ({ jobId, taskId }) => {
        const task = this.#task(jobId, taskId)
        if (this.#job(jobId).state !== 'active') throw new MeshError('JobCompleted')
        if (task.exitCode === 0) throw new MeshError('TaskSucceeded')
        Object.assign(task, { state: 'active', exitCode: undefined, outputs: [] })
        void this.#run(jobId, taskId)
        return {}
      },
      listTasks: ({ jobId, state, result, after, limit }) => {
        const views = [...this.#job(jobId).tasks.keys()].map((id) => this.#taskView(jobId, id))
        const wanted = views.filter(
          (view) => (state ?? view.state) === view.state && (result ?? view.executionInfo.result) === view.executionInfo.result,
        )
        const from = after === undefined ? 0 : wanted.findIndex(({ id }) => id === after) + 1
        const items = wanted.slice(from, from + Math.min(limit, this.pageSize))
        return from + items.length < wanted.length ? { items, next: items.at(-1)!.id } : { items }
      },
      getTask: ({ jobId, taskId }) => this.#taskView(jobId, taskId),
      readTaskFile: ({ jobId, taskId, name, offset, length }) => {
        const task = this.#task(jobId, taskId)
        if (this.textsAreGone) throw new MeshError('TaskFilesCleanedup')
        if (task.state !== 'completed') throw new MeshError('FileNotFound', `${name} is not there yet.`)
        const data = name === 'stdout.txt' ? task.stdout : task.stderr
        return { data: Uint8Array.from(data.subarray(offset, offset + length)), size: data.length, final: true }
      },
      watch: ({ jobId, replay }) => {
        const job = this.#job(jobId)
        this.#count += 1
        const watchId = this.#count
        const send = (events: TaskEvent[]) => {
          const { state, counts } = this.view(jobId)
          session.note('jobEvents', { watchId, events, counts, jobState: state })
        }
        const watches = this.#watches.get(jobId) ?? new Set()
        this.#watches.set(jobId, watches.add({ watchId, send }))
        // Before the answer, as a busy coordinator may.
        if (replay) send([...job.tasks.keys()].filter((id) => job.tasks.get(id)!.state === 'completed').map((id) => this.#event(jobId, id)))
        return { watchId, jobUid: job.uid, counts: this.view(jobId).counts, jobState: job.state }
      },
      unwatch: () => ({}),
      explain: () => ({ summary: 'It waits for a machine with 64 cores.', details: ['laptop: 4 cores'] }),
      eligible: () => ({ machines: [{ name: 'laptop', slots: 4 }], details: [] }),
    }
    const handlers = Object.fromEntries(
      Object.keys(controlProtocol.server.calls).map((name) => [
        name,
        async (request: unknown, context: unknown) => {
          await this.note(name === 'status' ? 'meshStatus' : name, request)
          const handler = (this.extra[name as keyof ControlCalls] ?? calls[name as keyof ControlCalls]) as
            | ((request: unknown, context: unknown) => unknown)
            | undefined
          if (handler === undefined) throw new MeshError('UnsupportedVersion')
          return (await handler(request, context)) ?? {}
        },
      ]),
    ) as unknown as ControlCalls
    const session = serverSession(controlProtocol, channel, { calls: handlers, notes: {} })
  }

  /** Adds the whole array, or nothing of it. */
  addArray(jobId: string, array: TaskArray): { count: number; firstTaskId: string; lastTaskId: string } {
    const specs = array.indexes.flatMap((range) =>
      Array.from({ length: countOf(range) }, (_, at) => arrayTask(array, range.start + at * range.step)),
    )
    if (specs.some(({ id }) => this.#job(jobId).tasks.has(id))) throw new MeshError('TaskExists')
    this.#add(jobId, specs)
    return { count: specs.length, firstTaskId: specs[0]!.id, lastTaskId: specs.at(-1)!.id }
  }

  #add(jobId: string, tasks: readonly TaskSpec[]): { taskId: string; error?: { code: string; message: string } }[] {
    const job = this.#job(jobId)
    return tasks.map((spec) => {
      if (JSON.stringify(spec).length > 1 << 20)
        return { taskId: spec.id, error: { code: 'InvalidPropertyValue', message: 'The task is larger than 1 MiB' } }
      if (job.tasks.has(spec.id)) return { taskId: spec.id, error: { code: 'TaskExists', message: 'it exists already' } }
      job.tasks.set(spec.id, { spec, state: 'active', outputs: [], stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) })
      void this.#run(jobId, spec.id)
      return { taskId: spec.id }
    })
  }

  /** Ends a job; what has not run stays as it is. */
  end(jobId: string, reason = 'UserTerminate'): Record<string, never> {
    const job = this.#job(jobId)
    job.state = 'completed'
    job.reason = reason
    for (const { send } of this.#watches.get(jobId) ?? []) send([])
    return {}
  }

  #maybeEnd(jobId: string): void {
    const job = this.#job(jobId)
    const isDone = [...job.tasks.values()].every(({ state }) => state === 'completed')
    if (job.spec.onAllTasksComplete === 'terminatejob' && isDone) this.end(jobId, 'AllTasksComplete')
  }

  async #run(jobId: string, taskId: string): Promise<void> {
    await this.gate
    await this.gateOf(taskId)
    const job = this.#job(jobId)
    const task = this.#task(jobId, taskId)
    if (job.state !== 'active') return
    task.state = 'running'
    for (const event of this.eventsOf(taskId))
      for (const { send } of this.#watches.get(jobId) ?? []) send([{ taskId, epoch: 1, retryCount: 0, requeueCount: 0, ...event }])
    if (task.spec.thread !== undefined) {
      await this.#call(task, task.spec.thread)
      return this.#complete(jobId, taskId)
    }
    const { stdout, stderr, exitCode, outputs } = runCommand(this, task.spec, { jobId, root: this.#root, path: this.path })
    Object.assign(task, { stdout, stderr, exitCode, outputs: this.reported(outputs) })
    this.#complete(jobId, taskId)
  }

  #complete(jobId: string, taskId: string): void {
    this.#task(jobId, taskId).state = 'completed'
    for (const { send } of this.#watches.get(jobId) ?? []) send([this.#event(jobId, taskId)])
    this.#maybeEnd(jobId)
  }

  /** Calls the function of a thread task, in this process; of a gang as each of its members, which share nothing. */
  async #call(task: FakeTask, { module, name, export: exported, args }: ThreadTask): Promise<void> {
    const path = join(this.#root, module, name)
    // Another task may be reading it.
    if (!existsSync(path)) stage(this, path, module)
    try {
      const loaded = (await import(path)) as Record<string, (...args: unknown[]) => unknown>
      const bytes = args === undefined ? undefined : 'bytes' in args ? args.bytes : this.blobs.get(args.blob)!
      const given = bytes === undefined ? [] : (deserialize(bytes) as unknown[])
      const size = task.spec.multiInstanceSettings?.numberOfInstances
      const members = Array.from({ length: size ?? 0 }, (_, rank) => loaded[exported]!({ rank, size }, ...given))
      const result = serialize(await (size === undefined ? loaded[exported]!(...given) : Promise.all(members)))
      task.exitCode = 0
      task.threadResult =
        result.length <= maxInlineValueBytes ? { bytes: new Uint8Array(result) } : { blob: this.addBlob(result), size: result.length }
    } catch (error) {
      const { name, message, stack } = error as Error
      task.exitCode = 1
      task.threadError = { name, message, stack }
    }
  }

  #event(jobId: string, taskId: string): TaskEvent {
    const task = this.#task(jobId, taskId)
    const isGood = task.exitCode === 0
    return {
      taskId,
      state: task.state,
      epoch: 1,
      exitCode: task.exitCode,
      result: isGood ? 'success' : 'failure',
      ...(isGood
        ? {}
        : {
            stderrTail: task.stderr.toString().slice(-2048),
            failureInfo: { category: 'usererror', code: 'FailureExitCode', message: 'nonzero' },
          }),
      outputs: task.outputs,
      threadResult: task.threadResult,
      threadError: task.threadError,
      retryCount: 0,
      requeueCount: 0,
    }
  }

  view(jobId: string): JobView {
    const job = this.#job(jobId)
    const tasks = [...job.tasks.values()]
    const count = (test: (task: FakeTask) => boolean) => tasks.filter(test).length
    const completed = count(({ state }) => state === 'completed')
    const succeeded = count(({ exitCode }) => exitCode === 0)
    return {
      ...job.spec,
      uid: job.uid,
      state: job.state,
      creationTime: 0,
      submitter: 'laptop',
      submitterPeer: this.submitter,
      stateTransitionTime: 0,
      terminateReason: job.reason,
      counts: {
        active: count(({ state }) => state === 'active'),
        running: count(({ state }) => state === 'running'),
        completed,
        succeeded,
        failed: completed - succeeded,
      },
      excludedMachines: [],
    }
  }

  #taskView(jobId: string, taskId: string): TaskView {
    const task = this.#task(jobId, taskId)
    const result = task.exitCode === undefined ? undefined : task.exitCode === 0 ? ('success' as const) : ('failure' as const)
    return {
      ...task.spec,
      jobId,
      state: task.state,
      creationTime: 0,
      stateTransitionTime: 0,
      executionInfo: { exitCode: task.exitCode, result, startTime: 0, endTime: 1200, retryCount: 0, requeueCount: 0 },
      nodeInfo: { poolId: 'default', nodeId: 'n', machine: laptop.peer, machineName: 'laptop', taskRootDirectory: `/tasks/${taskId}` },
      outputs: task.outputs,
      threadResult: task.threadResult,
      threadError: task.threadError,
      attempts: [],
    }
  }
}
