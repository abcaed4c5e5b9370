/** The mesh as a program sees it through its own machine's node. */
import { type ControlProtocol, controlProtocol } from '../../protocols/control.ts'
import { MeshError } from '../../protocols/errors.ts'
import { type LocalProtocol, localProtocol } from '../../protocols/local.ts'
import { controlSocketPath, dataDirectory } from '../config.ts'
import { version } from '../version.ts'
import { Line, type OpenChannel, type Trouble } from './sessions.ts'
import { type JobChange, WatchHub, watchJob } from './watch.ts'

/** For the question what version the other side is of, when it has just refused something. */
const versionPatienceMs = 5000

export interface ConnectOptions {
  /** Data directory of the node; see dataDirectory(). */
  dataDir?: string
  /** Told when calls that persist are waiting for the mesh, and when it is back. */
  onLost?: (error: MeshError) => void
  onBack?: () => void
  /** How to reach the node; its control socket by default. */
  open?: OpenChannel
}

export class Mesh {
  /** What concerns the whole mesh: pools, jobs, tasks, machines. */
  readonly control: Line<ControlProtocol['client'], ControlProtocol['server']>
  /** What concerns the node of this machine: its state, membership and blob store. */
  readonly local: Line<LocalProtocol['client'], LocalProtocol['server']>
  readonly dataDir: string
  readonly #hub = new WatchHub()
  readonly #trouble: Trouble
  #lost = false

  constructor(options: ConnectOptions) {
    this.dataDir = options.dataDir ?? dataDirectory()
    // Said once for each time the mesh is away, however many calls are waiting.
    this.#trouble = {
      lost: (error) => {
        if (!this.#lost) options.onLost?.(error)
        this.#lost = true
      },
      back: () => {
        if (this.#lost) options.onBack?.()
        this.#lost = false
      },
    }
    const open = options.open ?? socketOpener(controlSocketPath(this.dataDir))
    const openControl: OpenChannel = async (service, abort) => {
      const channel = await open(service, abort)
      this.#hub.reset()
      return channel
    }
    this.control = new Line(
      controlProtocol,
      openControl,
      { calls: {}, notes: { jobEvents: this.#hub.onEvents } },
      this.#trouble,
      (name, error) =>
        explained(name, error, async () => {
          const { coordinator } = await this.control.call('status', {}, { timeoutMs: versionPatienceMs })
          return { who: `the coordinator (${coordinator.name})`, version: coordinator.version, remedy: 'Upgrade it.' }
        }),
    )
    this.local = new Line(localProtocol, open, { calls: {}, notes: {} }, this.#trouble, (name, error) =>
      explained(name, error, async () => {
        const node = await this.local.call('status', {}, { timeoutMs: versionPatienceMs })
        const remedy = 'Restart it with the version that is installed: batchmesh down, then batchmesh up.'
        return { who: 'the node of this machine', version: node.version, remedy }
      }),
    )
  }

  /** See watchJob: ends only when the caller stops or `signal` aborts; completed tasks come again after a reconnection. */
  async *watchJob(jobId: string, signal: AbortSignal): AsyncGenerator<JobChange> {
    for await (const change of watchJob(this.control, this.#hub, this.#trouble, jobId, signal)) {
      this.#trouble.back()
      yield change
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.control.close(), this.local.close()])
  }
}

/** An error that another version of the other side may be the reason for, with both versions in its sentence. */
async function explained(
  name: string,
  error: MeshError,
  ask: () => Promise<{ who: string; version: string; remedy: string }>,
): Promise<MeshError> {
  // The question that finds out is itself not explained.
  if (name === 'status') return error
  const other = await ask().catch(() => undefined)
  if (other === undefined || other.version === version) return error
  const { who, remedy } = other
  const sentence =
    error.code === 'UnsupportedVersion'
      ? `${who[0]!.toUpperCase()}${who.slice(1)} is of version ${other.version} and does not know the request ${name} of this program, which is of ${version}. ${remedy}`
      : `${error.message} (This program is of version ${version}, ${who} of ${other.version}: what the one has, the other may not know.)`
  return new MeshError(error.code, sentence, { cause: error })
}

function socketOpener(path: string): OpenChannel {
  return async (service, options) => {
    const { openSocketChannel } = await import('./socket.ts')
    return openSocketChannel(path, service, options)
  }
}
