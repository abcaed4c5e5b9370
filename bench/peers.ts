/**
 * Other systems on the same work, side by side: no-op commands and no-op functions, two slots, each system's rounds in turn
 * with those of the baseline of its kind (`xargs -P2`, bare piscina), so that what else the machine does hits both.
 */
import { parseArgs } from 'node:util'
import { type Bench, table } from './bench.ts'
import { median } from './lab.ts'
import { batchmesh, batchmeshFunctions } from './peers/batchmesh.ts'
import { bullmq, bullmqAlways, bullmqFunctions, bullmqFunctionsAlways } from './peers/bullmq.ts'
import { parallel, xargs } from './peers/commands.ts'
import { dask } from './peers/dask.ts'
import { gearman, gearmanSqlite } from './peers/gearman.ts'
import { graphileWorker, graphileWorkerFunctions } from './peers/graphile-worker.ts'
import { installDebianPackages } from './peers/install.ts'
import { Missing } from './peers/missing.ts'
import type { Kind, Peer } from './peers/peer.ts'
import { piscina } from './peers/piscina.ts'
import { Place } from './peers/place.ts'
import { slurm } from './peers/slurm.ts'

const peers: readonly Peer[] = [
  batchmesh,
  gearman,
  gearmanSqlite,
  graphileWorker,
  bullmq,
  bullmqAlways,
  dask,
  parallel,
  slurm,
  batchmeshFunctions,
  graphileWorkerFunctions,
  bullmqFunctions,
  bullmqFunctionsAlways,
]
const baselines: Record<Kind, Peer> = { command: xargs, function: piscina }
/** Of a baseline's own round: enough to be measured, in less time. With fewer tasks than a system's own it shrinks alike. */
const baselineShare = 0.5
/** Before the first round: programs are read from the disk, pools are filled. */
const warmUpShare = 0.1

interface PeerResult {
  name: string
  kind: Kind
  tasks: number
  perSecond: number
  baselinePerSecond: number
  /** Median of the shares of the baseline, round by round. */
  share: number
  durable: string
  lostWithServer: string
}

interface PeersResult {
  rounds: number
  peers: PeerResult[]
  skipped: { name: string; reason: string }[]
}

export const bench: Bench = {
  usage: '[--only batchmesh,bullmq] [--tasks N] [--rounds 3] [--install]',
  async run(args) {
    const text = { type: 'string' } as const
    const { values } = parseArgs({
      args: [...args],
      options: { only: text, tasks: text, rounds: { ...text, default: '3' }, install: { type: 'boolean' } },
    })
    const rounds = whole('--rounds', values.rounds)
    const tasks = values.tasks === undefined ? undefined : whole('--tasks', values.tasks)
    const chosen = choose(values.only)
    // Servers are in process groups of their own: an interruption ends them by this process's exit.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))
    if (values.install === true) await installDebianPackages()
    const result: PeersResult = { rounds, peers: [], skipped: [] }
    for (const peer of chosen) {
      try {
        const measured = await measure(peer, tasks ?? peer.tasks, rounds)
        result.peers.push(measured)
        console.error(`${peer.name}: ${rate(measured.perSecond)}/s`)
      } catch (error) {
        if (!(error instanceof Missing)) console.error(error)
        result.skipped.push({ name: peer.name, reason: (error as Error).message })
      }
    }
    return { result, lines: lines(result) }
  },
}

function whole(option: string, text: string): number {
  if (!/^[1-9]\d*$/.test(text)) throw new Error(`${option} must be a whole number from 1, not ${text}`)
  return Number(text)
}

/** A name as a word: `bullmq-aof-always`. */
const wordOf = ({ name }: Peer): string =>
  name
    .toLowerCase()
    .replace(/^gnu /, '')
    .split(/[^a-z0-9]+/)
    .join('-')

/** Those whose words begin with one of these. */
function choose(only: string | undefined): readonly Peer[] {
  if (only === undefined) return peers
  const words = only.toLowerCase().split(',')
  const unknown = words.find((word) => word === '' || !peers.some((peer) => wordOf(peer).startsWith(word)))
  if (unknown !== undefined) throw new Error(`--only: there is no system "${unknown}"; there are ${peers.map(wordOf).join(', ')}`)
  return peers.filter((peer) => words.some((word) => wordOf(peer).startsWith(word)))
}

async function measure(peer: Peer, tasks: number, rounds: number): Promise<PeerResult> {
  const baseline = baselines[peer.kind]
  await using place = await Place.create(wordOf(peer))
  await using besides = await Place.create('baseline')
  await peer.install?.(place)
  const started = await peer.start(place)
  try {
    const compared = await baseline.start(besides)
    try {
      const baselineTasks = Math.ceil(Math.min(baseline.tasks, (baseline.tasks * tasks) / peer.tasks) * baselineShare)
      await compared.run(Math.ceil(baselineTasks * warmUpShare))
      await started.run(Math.ceil(tasks * warmUpShare))
      const seen: { own: number; base: number }[] = []
      for (let round = 0; round < rounds; round += 1) {
        const base = await perSecond(baselineTasks, (count) => compared.run(count))
        seen.push({ base, own: await perSecond(tasks, (count) => started.run(count)) })
      }
      const { name, kind, durable, lostWithServer } = peer
      const of = (value: (round: { own: number; base: number }) => number) => median(seen.map(value))
      return {
        ...{ name, kind, tasks, durable, lostWithServer },
        perSecond: of(({ own }) => own),
        baselinePerSecond: of(({ base }) => base),
        share: of(({ own, base }) => own / base),
      }
    } finally {
      await compared.stop?.()
    }
  } finally {
    await started.stop?.()
  }
}

async function perSecond(tasks: number, run: (tasks: number) => Promise<void>): Promise<number> {
  const begin = performance.now()
  await run(tasks)
  return tasks / ((performance.now() - begin) / 1000)
}

const rate = (value: number): string => (value < 100 ? value.toFixed(1) : value.toFixed(0))

function lines({ rounds, peers: measured, skipped }: PeersResult): string[] {
  const parts = (['command', 'function'] as const).flatMap((kind) => {
    const rows = measured
      .filter((peer) => peer.kind === kind)
      .map((peer) => [
        peer.name,
        String(peer.tasks),
        rate(peer.perSecond),
        peer.share.toFixed(peer.share < 0.1 ? 3 : 2),
        rate(peer.baselinePerSecond),
        peer.durable,
        peer.lostWithServer,
      ])
    const head = [`no-op ${kind}s`, 'a round', 'tasks/s', 'share', baselines[kind].name, 'durable', 'lost when the server is killed']
    return rows.length === 0 ? [] : [...table(head, rows), '']
  })
  return [
    ...parts,
    `medians of ${rounds} rounds, each in turn with the baseline`,
    ...skipped.map(({ name, reason }) => `skipped: ${name}: ${reason}`),
  ]
}
