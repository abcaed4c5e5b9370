/** `batchmesh events`. */
import type { Command } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import type { MeshEvent } from '../../protocols/model/event.ts'
import type { Mesh } from '../mesh/client.ts'
import { type Context, integer } from './context.ts'
import { durationMs, showTime } from './format.ts'
import { interruptible } from './interrupt.ts'
import type { Column } from './output.ts'

interface Options {
  follow?: boolean
  jobId?: string
  since?: string
  limit?: string
}

/** Shown when nothing says how many. */
const usualLimit = 100
/** A call that waits for events is answered after this at the latest, so that a dead connection is noticed. */
const waitMs = 20_000

const columns: Column<MeshEvent>[] = [
  { title: 'time', value: (e) => showTime(e.time), width: 8 },
  { title: 'event', value: (e) => e.kind, width: 20 },
  { title: 'what', value: (e) => e.message },
]
const tsvColumns: Column<MeshEvent>[] = [
  { title: 'seq', value: (e) => e.seq },
  { title: 'time', value: (e) => new Date(e.time).toISOString() },
  { title: 'event', value: (e) => e.kind },
  { title: 'job', value: (e) => e.jobId },
  { title: 'task', value: (e) => e.taskId },
  { title: 'pool', value: (e) => e.poolId },
  { title: 'machine', value: (e) => e.machineName },
  { title: 'what', value: (e) => e.message },
]

export function register(program: Command, context: Context): void {
  const command = program
    .command('events')
    .description(
      'Shows what happened in the mesh: machines that joined, went and came back, pools and jobs, tasks that failed, were run again or lost. Not every success. The coordinator keeps the newest 10,000.',
    )
    .option('-f, --follow', 'go on with what happens from now on, until Ctrl-C')
    .option('--job-id <id>', 'only what concerns this job')
    .option('--since <duration>', 'only the last 15m, 1h, 7d')
    .option('--limit <number>', `at most so many, the newest; default ${usualLimit}, with --since all`)
    .addHelpText(
      'after',
      `
With -f, -o json prints one object a line.

Examples:
  batchmesh events -f
  batchmesh events --since 1h --job-id render
  batchmesh events --since 1d -o tsv --query "[?kind=='machine-gone'].[machineName, message]"`,
    )
  context.action<Options>(command, (options) => show(context, options))
}

async function show(context: Context, options: Options): Promise<void> {
  const jobId = options.jobId
  const since = options.since === undefined ? undefined : Date.now() - durationMs(options.since, '--since')
  const limit = integer(options.limit, '--limit', 0) ?? (since === undefined ? usualLimit : Number.POSITIVE_INFINITY)
  const mesh = await context.mesh()
  const { items, last } = await past(mesh, { jobId, since }, limit)
  const shown = context.format === 'tsv' ? tsvColumns : columns
  if (options.follow !== true) return context.list(shown, items)
  for (const event of items) await context.next(shown, event)
  await interruptible(context.world, (signal) => follow(context, mesh, { jobId, after: last, shown, signal }))
}

/** The newest events that fit, oldest first, and where what follows begins. */
async function past(mesh: Mesh, filter: { jobId?: string; since?: number }, limit: number): Promise<{ items: MeshEvent[]; last: number }> {
  const items: MeshEvent[] = []
  let after = 0
  for (;;) {
    const page = await mesh.control.call('listEvents', { ...filter, after })
    items.push(...page.items)
    if (items.length > limit) items.splice(0, items.length - limit)
    after = page.last
    if (page.items.length === 0) return { items, last: after }
  }
}

interface Following {
  jobId: string | undefined
  after: number
  shown: readonly Column<MeshEvent>[]
  signal: AbortSignal
}

/** Goes on for ever: also through a cut, for what came meanwhile is asked for by its number. */
async function follow(context: Context, mesh: Mesh, { jobId, after, shown, signal }: Following): Promise<never> {
  for (let from = after; ; ) {
    const page = await mesh.control.call('listEvents', { after: from, jobId, waitMs }, { persist: true, signal, timeoutMs: 2 * waitMs })
    if (page.missed > 0) context.say(`batchmesh: ${page.missed} events were not kept`)
    for (const event of page.items) await context.next(shown, event)
    from = page.last
    if (signal.aborted) throw new MeshError('Aborted')
  }
}
