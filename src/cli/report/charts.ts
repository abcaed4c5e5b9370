/**
 * The pictures of a report. Each is an SVG that is stretched to the width there is, so it holds no text: titles and axes
 * are HTML around it. Where bars would be thinner than a pixel, a row shows how many ran at each moment instead.
 */
import { escaped, lanesOf, n } from '../../timeline.ts'
import { showDuration } from '../format.ts'
import { type Attempts, type Kind, kinds, mostBars, type NodeRow } from './tally.ts'

/** Width of a picture in its own units, and columns of one that adds up. */
const width = 1000
const columns = 400
const mostRows = 100
/** Thinner bars say no more than their sum. */
const leastBar = 1.2
const mostLanes = 24

export interface Span {
  begin: number
  end: number
}

export const kindLabels: Record<Kind, string> = {
  success: 'succeeded',
  running: 'running',
  failure: 'failed',
  'program-missing': 'program not found there',
  lost: 'lost with its machine',
  preempted: 'preempted',
  requeued: 'taken back',
  terminated: 'stopped',
}

/** From the first start to the last end; at least a moment. */
export function spanOf({ start, end }: Attempts): Span {
  let begin = Number.POSITIVE_INFINITY
  let last = Number.NEGATIVE_INFINITY
  for (const time of start) if (time < begin) begin = time
  for (const time of end) if (time > last) last = time
  return Number.isFinite(begin) ? { begin, end: Math.max(last, begin + 1) } : { begin: 0, end: 1 }
}

/** Attempts of one node, as indexes. */
function byNode(attempts: Attempts, nodes: number): number[][] {
  const rows: number[][] = Array.from({ length: nodes }, () => [])
  for (const [at, node] of attempts.node.entries()) rows[node]!.push(at)
  return rows
}

/** How many slots were busy in each column, by kind: its whole time counts, also of what took a part of a column. */
function load(attempts: Attempts, which: Iterable<number>, { begin, end }: Span): Float64Array[] {
  const sums = kinds.map(() => new Float64Array(columns))
  const columnMs = (end - begin) / columns
  for (const at of which) {
    const sum = sums[attempts.kind[at]!]!
    const slots = attempts.slots[at]!
    const from = (attempts.start[at]! - begin) / columnMs
    const to = (attempts.end[at]! - begin) / columnMs
    const last = Math.min(columns - 1, Math.floor(to))
    for (let column = Math.floor(from); column <= last; column += 1)
      sum[column]! += slots * Math.max(0, Math.min(to, column + 1) - Math.max(from, column))
  }
  return sums
}

/** The kinds one upon the other, as steps. `most` is the value at the top. */
function stacked(sums: readonly Float64Array[], most: number, height: number): string {
  const base = new Float64Array(columns)
  const x = (column: number) => n((column * width) / columns)
  const y = (value: number) => n(height * (1 - Math.min(1, value / most)))
  return sums
    .map((sum, kind) => {
      let path = ''
      const edges = Array.from(sum, (value, column) => `${y(base[column]! + value)} ${y(base[column]!)}`)
      for (let column = 0; column < columns; ) {
        const from = column
        while (column < columns && edges[column] === edges[from]) column += 1
        const [upper, lower] = edges[from]!.split(' ')
        if (upper !== lower) path += `M${x(from)} ${upper}H${x(column)}V${lower}H${x(from)}Z`
      }
      for (const [column, value] of sum.entries()) base[column]! += value
      return path === '' ? '' : `<path class="${kinds[kind]}" d="${path}"/>`
    })
    .join('')
}

/** Where attempts ended badly, as marks that are seen however small their share is. */
function marks(attempts: Attempts, which: Iterable<number>, { begin, end }: Span, y: number): string {
  const worst = new Map<number, number>()
  for (const at of which) {
    const kind = attempts.kind[at]!
    if (kind < 2) continue
    const column = Math.min(columns - 1, Math.floor(((attempts.end[at]! - begin) / (end - begin)) * columns))
    worst.set(column, Math.min(kind, worst.get(column) ?? kind))
  }
  return [...worst]
    .map(
      ([column, kind]) =>
        `<rect class="${kinds[kind]}" x="${n((column * width) / columns)}" y="${y}" width="${width / columns}" height="3"/>`,
    )
    .join('')
}

function bars(attempts: Attempts, lanes: readonly { at: number; start: number; end: number }[][], span: Span, laneHeight: number): string {
  const x = (time: number) => ((time - span.begin) / (span.end - span.begin)) * width
  return lanes
    .flatMap((lane, index) =>
      lane.map(({ at, start, end }) => {
        const kind = kinds[attempts.kind[at]!]!
        const tip = `${attempts.names[at]}: ${kindLabels[kind]}, ${showDuration(end - start)}, from ${showDuration(start - span.begin)}`
        const long = Math.max(0.8, x(end) - x(start) - 0.6)
        return `<rect class="${kind}" x="${n(x(start))}" y="${index * laneHeight}" width="${n(long)}" height="${laneHeight - 1}"><title>${escaped(tip)}</title></rect>`
      }),
    )
    .join('')
}

/** The time line: a row a node. */
export function timeline(attempts: Attempts, nodes: readonly NodeRow[], span: Span): string {
  const rows = byNode(attempts, nodes.length)
  const busy = rows.map((which) => which.reduce((sum, at) => sum + attempts.end[at]! - attempts.start[at]!, 0))
  const order = nodes.map((_, at) => at).filter((at) => rows[at]!.length > 0)
  const shown = order.length <= mostRows ? order : order.toSorted((a, b) => busy[b]! - busy[a]!).slice(0, mostRows)
  const names = new Map<string, number>()
  for (const at of shown) names.set(nodes[at]!.machine, (names.get(nodes[at]!.machine) ?? 0) + 1)
  shown.sort((a, b) => (nodes[a]!.machine < nodes[b]!.machine ? -1 : 1))
  const isDetailed = attempts.start.length <= mostBars
  const body = shown.map((at) => {
    const { machine, id, slots } = nodes[at]!
    const name = names.get(machine) === 1 ? machine : `${machine} ${id}`
    const about = slots === undefined ? 'not in the pool now' : `${slots} ${slots === 1 ? 'slot' : 'slots'}`
    return `<div class="who" title="${escaped(`${machine}, node ${id}`)}"><b>${escaped(name)}</b><span>${about}</span></div>${row(attempts, rows[at]!, nodes[at]!, span, isDetailed)}`
  })
  const rest = order.length - shown.length
  const more = rest > 0 ? `<p class="quiet">The ${mostRows} busiest nodes of ${order.length} are shown.</p>` : ''
  return `<div class="chart">${body.join('')}<div></div>${axis(span)}</div>${legend(attempts)}${more}`
}

function row(attempts: Attempts, which: readonly number[], node: NodeRow, span: Span, isDetailed: boolean): string {
  if (isDetailed) {
    const items = which.map((at) => ({ at, start: attempts.start[at]!, end: attempts.end[at]! }))
    const lanes = lanesOf(items)
    const thin = items.filter(({ start, end }) => ((end - start) / (span.end - span.begin)) * width < leastBar).length
    if (lanes.length <= mostLanes && thin <= items.length / 2) {
      const laneHeight = lanes.length > 8 ? 8 : 14
      return picture(lanes.length * laneHeight, bars(attempts, lanes, span, laneHeight))
    }
  }
  const sums = load(attempts, which, span)
  const most = Math.max(node.slots ?? 1, ...sumUp(sums))
  return picture(40, stacked(sums, most, 36) + marks(attempts, which, span, 37))
}

function sumUp(sums: readonly Float64Array[]): number[] {
  return Array.from({ length: columns }, (_, column) => sums.reduce((all, sum) => all + sum[column]!, 0))
}

/** Busy slots over time, against those that there are. */
export function utilisation(attempts: Attempts, span: Span, available: number): string {
  const sums = load(attempts, attempts.start.keys(), span)
  const total = sumUp(sums)
  const peak = Math.max(0, ...total)
  const most = Math.max(available, peak, 1)
  const line =
    available > 0
      ? `<line class="available" x1="0" x2="${width}" y1="${n(120 * (1 - available / most))}" y2="${n(120 * (1 - available / most))}"/>`
      : ''
  return `<div class="chart"><div class="who scale"><span>${n(Math.round(most * 10) / 10)} slots</span><span>0</span></div>${picture(120, stacked(sums, most, 120) + line)}<div></div>${axis(span)}</div>`
}

/** Average number of busy slots, and the most at once. */
export function busySlots(attempts: Attempts, { begin, end }: Span): { average: number; peak: number } {
  let slotMs = 0
  const changes: [number, number][] = []
  for (const at of attempts.start.keys()) {
    const slots = attempts.slots[at]!
    slotMs += (attempts.end[at]! - attempts.start[at]!) * slots
    changes.push([attempts.start[at]!, slots], [attempts.end[at]!, -slots])
  }
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1])
  let [peak, now] = [0, 0]
  for (const [, change] of changes) {
    now += change
    peak = Math.max(peak, now)
  }
  return { average: slotMs / (end - begin), peak }
}

function picture(height: number, body: string): string {
  return `<svg viewBox="0 0 ${width} ${height}" height="${height}" preserveAspectRatio="none" role="img">${body}</svg>`
}

const stepsMs = [
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500],
  ...[1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map((seconds) => seconds * 1000),
  ...[1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760].map((hours) => hours * 3_600_000),
]

/** About six times, from the start on. */
function axis({ begin, end }: Span): string {
  const all = end - begin
  const step = stepsMs.find((ms) => all / ms <= 6) ?? all / 4
  const ticks: string[] = []
  for (let at = 0; at <= all; at += step) {
    const share = (at / all) * 100
    ticks.push(`<span style="left:${n(share)}%"${share > 92 ? ' class="last"' : ''}>${at === 0 ? '0' : showDuration(at)}</span>`)
  }
  return `<div class="axis">${ticks.join('')}</div>`
}

function legend(attempts: Attempts): string {
  const used = new Set(attempts.kind)
  const items = kinds.flatMap((kind, at) => (used.has(at) ? [`<span><i class="${kind}"></i>${kindLabels[kind]}</span>`] : []))
  return `<div class="legend">${items.join('')}</div>`
}
