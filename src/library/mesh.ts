/** The mesh as a program uses it. */
import type { MeshStatus } from '../../protocols/control.ts'
import type { LocalStatus } from '../../protocols/local.ts'
import type { Mesh as Client } from '../mesh/client.ts'
import type { JobChange } from '../mesh/watch.ts'
import type { Group } from '../mesh.ts'
import { Blobs } from './blobs.ts'
import type { GroupOptions } from './group/options.ts'
import { Groups } from './groups.ts'
import { Jobs } from './jobs.ts'
import { Machines } from './machines.ts'
import type { Completed, CompletedSettled, Inputs, MapOptions, RemoteFunction, Settled } from './map/options.ts'
import { Pools } from './pools.ts'
import type { FinishedTask } from './run/finished-task.ts'
import type { RunOptions } from './run/options.ts'
import { Tasks } from './tasks.ts'

/** Whom an invitation is for. */
export interface InviteOptions {
  /** What its holders may do; default `worker` and `submitter`. */
  roles?: ('worker' | 'submitter' | 'admin')[]
  /** How many machines may use it; default 1. */
  uses?: number
  /** How long it holds, in milliseconds; default a day. */
  expiresMs?: number
}

type ControlCalls = Client['control']
type LocalCalls = Client['local']

const dayMs = 86_400_000

/**
 * A connection to a mesh; made by {@link connect} or {@link join}. Close it at the end, with `await using` or
 * {@link Mesh.close}: until then it keeps the program alive. It sets no signal handlers and writes to neither standard
 * output nor standard error. What it rejects with is a {@link MeshError}, unless it says otherwise.
 */
export class Mesh implements AsyncDisposable {
  readonly machines: Machines
  readonly pools: Pools
  readonly jobs: Jobs
  readonly tasks: Tasks
  readonly blobs: Blobs
  readonly groups: Groups
  /** Every call that the mesh understands (protocols/control.ts), for what the rest of this class does not cover. */
  readonly control: ControlCalls
  /** Every call that the node understands (protocols/local.ts). */
  readonly local: LocalCalls
  /** Data directory of the node. */
  readonly dataDir: string
  readonly #client: Client
  readonly #release: () => Promise<void>
  #closing: Promise<void> | undefined

  /** @internal */
  constructor(client: Client, release: () => Promise<void> = async () => {}) {
    this.#client = client
    this.#release = release
    this.machines = new Machines(client.control)
    this.pools = new Pools(client.control)
    this.jobs = new Jobs(client)
    this.tasks = new Tasks(client)
    this.blobs = new Blobs(client)
    this.groups = new Groups(client)
    this.control = client.control
    this.local = client.local
    this.dataDir = client.dataDir
  }

  /** How the mesh is: its coordinator, machines, capacity, and how many jobs and tasks it has. */
  status(): Promise<MeshStatus> {
    return this.control.call('status', {})
  }

  /** How the node is that this connection goes through. */
  node(): Promise<LocalStatus> {
    return this.local.call('status', {})
  }

  /**
   * Makes a token that lets other machines join: for `join({ token })`, `connect({ token })` and `batchmesh up --join`.
   * @throws {@link MeshError} `InsufficientPermissions` without the role admin, which the founder has
   */
  async invite(options: InviteOptions = {}): Promise<string> {
    const { roles = ['worker', 'submitter'], uses = 1, expiresMs = dayMs } = options
    return (await this.local.call('invite', { roles, uses, expiresMs })).token
  }

  /**
   * Runs a command once for each input, wherever in the mesh there is room. Gives each task when it has ended, those
   * that failed as well ({@link FinishedTask.check} throws for them). The work begins with the first step of the
   * iteration. Leaving the loop early stops the job.
   *
   *     for await (const done of mesh.run({ command: 'povray +I{input} +O{name}.png', inputs: 'frames/*.pov', outputs: '*.png' })) {
   *       done.check()
   *       await done.save('out')
   *     }
   *
   * @throws {@link MeshError} `InvalidPropertyValue`, `PoolNotFound`, `JobExists`, `JobCompleted` when somebody else
   *   ended the job; with an aborted signal its reason
   */
  async *run(options: RunOptions): AsyncGenerator<FinishedTask, void, undefined> {
    const { runCommand } = await import('./run/run.ts')
    yield* runCommand(this.#client, options)
  }

  /**
   * Calls a function once for each input, in worker threads all over the mesh. Inputs and results are what
   * structuredClone takes. A function is sent as its source text: it can use nothing from around it but globals and
   * what it imports itself; for more, name one of a module with {@link remoteModule}, which is bundled with all that it
   * imports. The work begins with the first step of the iteration; leaving it early stops the job.
   *
   *     for await (const square of mesh.map((n: number) => n * n, [1, 2, 3])) console.log(square)
   *
   * @throws {@link MapError} for the first input that failed, unless `settled`; {@link MeshError} `InvalidPropertyValue`
   *   for a function or input that cannot be sent; with an aborted signal its reason
   */
  map<I, R>(
    work: ((input: I) => R) | RemoteFunction<(input: I) => R>,
    inputs: Inputs<I>,
    options?: MapOptions & { order?: 'input'; settled?: false },
  ): AsyncGenerator<Awaited<R>, void, undefined>
  /** As they are completed, each with its input. */
  map<I, R>(
    work: ((input: I) => R) | RemoteFunction<(input: I) => R>,
    inputs: Inputs<I>,
    options: MapOptions & { order: 'completed'; settled?: false },
  ): AsyncGenerator<Completed<I, Awaited<R>>, void, undefined>
  /** Failures are results like others. */
  map<I, R>(
    work: ((input: I) => R) | RemoteFunction<(input: I) => R>,
    inputs: Inputs<I>,
    options: MapOptions & { order?: 'input'; settled: true },
  ): AsyncGenerator<Settled<Awaited<R>>, void, undefined>
  /** Both. */
  map<I, R>(
    work: ((input: I) => R) | RemoteFunction<(input: I) => R>,
    inputs: Inputs<I>,
    options: MapOptions & { order: 'completed'; settled: true },
  ): AsyncGenerator<CompletedSettled<I, Awaited<R>>, void, undefined>
  /** With options that are known only when it runs. */
  map<I, R>(
    work: ((input: I) => R) | RemoteFunction<(input: I) => R>,
    inputs: Inputs<I>,
    options: MapOptions,
  ): AsyncGenerator<Awaited<R> | Completed<I, Awaited<R>> | Settled<Awaited<R>>, void, undefined>
  async *map<I, R>(
    work: ((input: I) => R) | RemoteFunction<(input: I) => R>,
    inputs: Inputs<I>,
    options: MapOptions = {},
  ): AsyncGenerator<unknown, void, undefined> {
    const { mapInputs } = await import('./map/map.ts')
    yield* mapInputs(this.#client, work, inputs, options)
  }

  /**
   * Calls a function on so many nodes at once, each with its {@link Group} before the arguments, and gives what all of them
   * returned, by rank. Functions, arguments and results are as with {@link Mesh.map}. The members start together or not at all;
   * where one is lost, all are ended and tried again as one. Unless the options name a pool, one is made for the group, and
   * deleted with its end.
   *
   *     const sums = await mesh.group(4, (group, n) => group.allreduce(n * group.rank, 'sum'), 10)   // [60, 60, 60, 60]
   *
   * @throws {@link MemberError} with what a member threw and its rank; {@link MeshError} `InvalidPropertyValue` for a function,
   *   an argument or a pool that will not do, `PoolNotFound`, `JobExists`; with an aborted signal its reason
   */
  async group<A extends unknown[], R>(
    size: number | GroupOptions,
    work: ((group: Group, ...args: A) => R) | RemoteFunction<(group: Group, ...args: A) => R>,
    ...args: A
  ): Promise<Awaited<R>[]> {
    const { runGroup } = await import('./group/group.ts')
    return (await runGroup(this.#client, size, work, args)) as Awaited<R>[]
  }

  /**
   * The changes of a job's tasks, from its completed ones on, until the signal aborts. It outlasts restarts of the node
   * and the coordinator; completed tasks are then shown again.
   * @throws {@link MeshError} `JobNotFound`, `Aborted`
   */
  watchJob(jobId: string, signal: AbortSignal): AsyncGenerator<JobChange> {
    return this.#client.watchJob(jobId, signal)
  }

  /** Ends the connection, and with it the node where that runs in this program. May be called more than once. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#client.close()
      await this.#release()
    })()
    return this.#closing
  }

  /** {@link close} */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}
