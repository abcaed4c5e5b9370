/**
 * Whether a measure grows: a robust line through each life of a process, after its warm-up. Pure.
 *
 * The slope is Theil's and Sen's: the median of the slopes between all pairs of samples, which a third of outliers (a
 * compaction, a fault, a busy moment) does not move.
 */

export const measures = ['heap', 'external', 'rss', 'handles', 'fds', 'threads', 'processes', 'disk', 'database', 'cache', 'lag'] as const
export type Measure = (typeof measures)[number]

/** MiB, except for handles, fds, threads and processes, which are counts, and lag, in ms. An absent value could not be had. */
export interface Sample extends Partial<Record<Measure, number>> {
  /** Of the run, in seconds. */
  time: number
  /** Name of the node. */
  node: string
  /** Which of its lives, from 1. */
  life: number
}

interface Limit {
  unit: string
  /** Growth in an hour that is called growth. */
  perHour: number
  /** Growth over the time that was seen that is noise, whatever it would come to in an hour. */
  noise: number
}

/**
 * Per hour: what a node with a week of uptime could still bear (4 MiB of heap an hour are 670 in a week), and what an hour
 * can tell from noise. Noise: what caches and pages of the allocator come and go by.
 */
export const limits: Record<Measure, Limit> = {
  heap: { unit: 'MiB', perHour: 4, noise: 1.5 },
  external: { unit: 'MiB', perHour: 4, noise: 1.5 },
  rss: { unit: 'MiB', perHour: 12, noise: 8 },
  handles: { unit: '', perHour: 4, noise: 3 },
  fds: { unit: '', perHour: 4, noise: 3 },
  threads: { unit: '', perHour: 1, noise: 1 },
  // A lane is up to four processes, and lanes come and go.
  processes: { unit: '', perHour: 1, noise: 4 },
  disk: { unit: 'MiB', perHour: 10, noise: 5 },
  database: { unit: 'MiB', perHour: 4, noise: 2 },
  // Blobs that nothing keeps stay until room is needed: bounded by --blob-quota, and shared inputs by 20 GiB.
  cache: { unit: 'MiB', perHour: Number.POSITIVE_INFINITY, noise: 0 },
  lag: { unit: 'ms', perHour: 50, noise: 30 },
}

export interface Growth {
  node: string
  life: number
  measure: Measure
  samples: number
  /** Seconds from the first to the last sample after the warm-up. */
  seconds: number
  median: number
  perHour: number
  grows: boolean
}

/** A fifth of the run, at most 15 minutes: until caches, pages of the allocator and compaction have found their level. */
export function warmUpSeconds(runSeconds: number): number {
  return Math.min(15 * 60, runSeconds / 5)
}

/** Least that is judged of a life after its warm-up: in less, an hour's growth cannot be told from noise. */
export const leastSeconds = 20 * 60

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Median of the slopes between all pairs of points with different x; undefined where there is no such pair. */
export function theilSen(points: readonly { x: number; y: number }[]): number | undefined {
  const slopes: number[] = []
  points.forEach((a, at) => {
    for (const b of points.slice(at + 1)) if (a.x !== b.x) slopes.push((b.y - a.y) / (b.x - a.x))
  })
  return slopes.length === 0 ? undefined : median(slopes)
}

/** One for each life and measure that lived long enough, in the order of the samples. The start of each life, `warmUp` seconds, does not count. */
export function growths(samples: readonly Sample[], warmUp: number): Growth[] {
  const lives = Map.groupBy(samples, ({ node, life }) => `${node}#${life}`)
  return [...lives.values()].flatMap((life) => {
    const settled = life.filter(({ time }) => time - life[0]!.time >= warmUp)
    return measures.flatMap((measure) => growth(settled, measure))
  })
}

function growth(settled: readonly Sample[], measure: Measure): Growth[] {
  const points = settled.flatMap((sample) => (sample[measure] === undefined ? [] : [{ x: sample.time / 3600, y: sample[measure] }]))
  const slope = theilSen(points)
  if (slope === undefined) return []
  const hours = points.at(-1)!.x - points[0]!.x
  // The sum of hours in seconds is off by a rounding.
  if (hours * 3600 < leastSeconds - 1) return []
  const { node, life } = settled[0]!
  const grows = slope > limits[measure].perHour && slope * hours > limits[measure].noise
  const seconds = Math.round(hours * 3600)
  return [{ node, life, measure, samples: points.length, seconds, median: median(points.map(({ y }) => y)), perHour: slope, grows }]
}

/** The verdict as text: a table of the largest slope of each measure, then what grows. */
export function verdictLines(all: readonly Growth[]): string[] {
  if (all.length === 0) return ['Growth was not judged: no process lived long enough after its warm-up.']
  const lines = ['measure     steepest slope an hour        limit   median   of']
  for (const measure of measures) {
    const steepest = all.filter((one) => one.measure === measure).toSorted((a, b) => b.perHour - a.perHour)[0]
    if (steepest === undefined) continue
    const { unit, perHour } = limits[measure]
    const cells = [
      `${signed(steepest.perHour)} ${unit}`.trim().padEnd(24),
      (Number.isFinite(perHour) ? String(perHour) : 'its own').padStart(10),
      shown(steepest.median).padStart(8),
    ]
    lines.push(`${measure.padEnd(11)} ${cells.join(' ')}   ${steepest.node}#${steepest.life}, ${Math.round(steepest.seconds / 60)} min`)
  }
  const growing = all.filter(({ grows }) => grows)
  for (const { node, life, measure, perHour } of growing)
    lines.push(
      `GROWS: ${measure} of ${node}#${life} by ${shown(perHour)} ${limits[measure].unit} an hour; the limit is ${limits[measure].perHour}`,
    )
  return growing.length === 0 ? [...lines, 'Nothing grows.'] : lines
}

const shown = (value: number): string => String(Math.round(value * 100) / 100)
const signed = (value: number): string => (value >= 0 ? `+${shown(value)}` : shown(value))
