/** Where a process's CPU goes, by layer, from V8's sampling profiler running inside it. */
import { type Profiler, Session } from 'node:inspector/promises'

/** The first that matches the file and name of what was on top of the stack. */
const layers: [name: string, matches: RegExp][] = [
  ['idle', /\(idle\)|^node:inspector/],
  ['garbage collection', /\(garbage collector\)/],
  [
    'encryption and sockets',
    /^node:(net|tls|internal\/(stream|tls|crypto)|_tls|crypto)|^node:internal\/streams|\bwritev?(Buffer|Utf8String|Latin1String)?$/,
  ],
  ['libp2p', /node_modules\/(@libp2p|@multiformats|multiformats|uint8|it-|libp2p|@chainsafe|race-|any-signal|main-event|abort-)/],
  ['MessagePack', /node_modules\/@msgpack|protocols\/codec/],
  ['schema checks', /node_modules\/zod/],
  ['frames and calls', /protocols\/(rpc|framing|stream-channel)|bench\/fleet|node\/(host|socket-duplex)/],
  ['database', /node_modules\/(level|classic-level|abstract-level)|coordinator\/store/],
  [
    'core',
    /coordinator\/(machine|machines|lease|placement|queue|turn|settle|tasks|task-book|jobs|state|events|missing-program|room|dependencies|array|rows|number-set|pools)/,
  ],
  ['shell', /coordinator\//],
  ['Node and V8', /^/],
]

export interface Profile {
  /** Shares of the time in which something was done: samples count wall-clock time, which other processes stretch. */
  layers: Record<string, number>
  /** The functions with most time of their own. */
  top: { name: string; share: number }[]
}

export class ProfiledSpan {
  readonly #session = new Session()

  async start(): Promise<void> {
    this.#session.connect()
    await this.#session.post('Profiler.enable')
    await this.#session.post('Profiler.setSamplingInterval', { interval: 500 })
    await this.#session.post('Profiler.start')
  }

  async stop(): Promise<Profile> {
    const { profile } = await this.#session.post('Profiler.stop')
    this.#session.disconnect()
    return summary(profile)
  }
}

function summary({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Profile {
  const byNode = new Map(nodes.map((node) => [node.id, node.callFrame]))
  const byLayer = new Map<string, number>()
  const byFunction = new Map<string, number>()
  let whole = 0
  samples.forEach((id, at) => {
    const { url, functionName, lineNumber } = byNode.get(id)!
    const microseconds = timeDeltas[at] ?? 0
    const text = `${url.replace('file://', '')} ${functionName}`.trim()
    const layer = layers.find(([, matches]) => matches.test(text))![0]
    if (layer === 'idle') return
    whole += microseconds
    byLayer.set(layer, (byLayer.get(layer) ?? 0) + microseconds)
    const name = `${functionName || '(anonymous)'} ${url.split('/').slice(-2).join('/')}:${lineNumber + 1}`
    byFunction.set(name, (byFunction.get(name) ?? 0) + microseconds)
  })
  const top = [...byFunction].sort(([, a], [, b]) => b - a).slice(0, 40)
  return {
    layers: Object.fromEntries([...byLayer].map(([name, microseconds]) => [name, microseconds / whole])),
    top: top.map(([name, microseconds]) => ({ name, share: microseconds / whole })),
  }
}
