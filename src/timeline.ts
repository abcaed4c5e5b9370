/**
 * A picture of a job: a row for each machine, a bar for each attempt at a task, time to the right. Pure: what it is
 * given, text out. The SVG stands alone, and is readable on light and on dark ground.
 */
import type { AttemptEnd, TaskView } from '../protocols/model/task.ts'

/** A program on a machine, from its start to its end; times in ms since 1970. */
export interface TimelineAttempt {
  task: string
  /** `id` of its machine. */
  machine: string
  start: number
  end: number
  /** Absent while it runs. */
  ended?: AttemptEnd
  /** From 2 on the task was run again. */
  epoch: number
}

export interface TimelineEvent {
  time: number
  /** Marks that machine's row only; absent: all rows. */
  machine?: string
  /** As in `killed`: the legend says it with the second. */
  label: string
}

export interface Timeline {
  title: string
  /** The rows, from the top. An attempt on a machine that is not named is not shown. */
  machines: readonly { id: string; name: string }[]
  attempts: readonly TimelineAttempt[]
  events?: readonly TimelineEvent[]
}

/** The attempts of tasks whose program was started; `now` ends what still runs, or whose end nobody saw. */
export function attemptsOf(tasks: readonly Pick<TaskView, 'id' | 'attempts'>[], now: number): TimelineAttempt[] {
  return tasks.flatMap(({ id, attempts }) =>
    attempts.flatMap(({ startTime, endTime, end, machine, epoch }) =>
      startTime === undefined
        ? []
        : [{ task: id, machine, start: startTime, end: endTime ?? now, epoch, ...(end === undefined ? {} : { ended: end }) }],
    ),
  )
}

const width = 960
const left = 120
const right = 20
const top = 46
const laneHeight = 20
const rowGap = 10
/** About this many steps on the axis: more would run into each other. */
const axisSteps = 12

type Kind = 'done' | 'rerun' | 'ended' | 'failed' | 'running'
const kindLabels: Record<Kind, string> = {
  done: 'done at the first attempt',
  rerun: 'run again, and done',
  ended: 'cut short by no fault of its own',
  failed: 'failed',
  running: 'still running',
}

function kindOf({ ended, epoch }: TimelineAttempt): Kind {
  if (ended === undefined) return 'running'
  if (ended === 'success') return epoch > 1 ? 'rerun' : 'done'
  return ended === 'failure' || ended === 'program-missing' ? 'failed' : 'ended'
}

/** For the text and the attributes of SVG and HTML. */
export function escaped(text: string): string {
  const marks: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
  // what XML 1.0 does not know as a character (its rule 2), not even escaped
  return text
    .replace(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, '\ufffd')
    .replace(/[&<>"]/g, (mark) => marks[mark] ?? mark)
}

/** Two decimals at most: enough for a picture, and the same everywhere. */
export const n = (value: number): string => String(Math.round(value * 100) / 100)

/** 1, 2 or 5 times a power of ten: the smallest that gives at most `axisSteps` steps. */
function niceStep(span: number): number {
  const rough = span / axisSteps
  const power = 10 ** Math.floor(Math.log10(rough))
  return power * ([1, 2, 5].find((factor) => power * factor >= rough) ?? 10)
}

/** Puts what overlaps into lanes of their own, as few as there were at once. */
export function lanesOf<T extends { start: number; end: number }>(attempts: readonly T[]): T[][] {
  const lanes: T[][] = []
  for (const attempt of attempts.toSorted((a, b) => a.start - b.start || a.end - b.end)) {
    const lane = lanes.find((members) => (members.at(-1)?.end ?? 0) <= attempt.start)
    if (lane === undefined) lanes.push([attempt])
    else lane.push(attempt)
  }
  return lanes.length === 0 ? [[]] : lanes
}

const style = `
  .ground { fill: #ffffff } text { fill: #24292f; font: 12px system-ui, sans-serif } .title { font-size: 15px; font-weight: 600 }
  .quiet { fill: #57606a } .line { stroke: #d0d7de } .event { stroke: #cf222e; stroke-width: 2; stroke-dasharray: 4 3 } .said { fill: #cf222e; font-weight: 600 }
  .done { fill: #2a7fc9 } .done.odd { fill: #4b9be0 } .rerun { fill: #d98a00 } .failed { fill: #cf222e } .ended { fill: url(#hatch); stroke: #cf222e } .running { fill: none; stroke: #8b949e }
  .bar { font-size: 10px; fill: #ffffff; text-anchor: middle } .onhatch { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9da7b3 } .line { stroke: #30363d } .event { stroke: #ff7b72 } .said, .onhatch { fill: #ff7b72 } .ended { stroke: #ff7b72 }
  }
`

/** The picture as the text of an SVG file. */
export function timelineSvg({ title, machines, attempts, events = [] }: Timeline): string {
  const ids = new Set(machines.map(({ id }) => id))
  const shown = attempts.filter(({ machine }) => ids.has(machine))
  const times = [...shown.flatMap(({ start, end }) => [start, end]), ...events.map(({ time }) => time)]
  const begin = times.length === 0 ? 0 : times.reduce((a, b) => Math.min(a, b))
  const seconds = Math.max(0.001, times.reduce((a, b) => Math.max(a, b - begin), 0) / 1000)
  const x = (time: number): number => left + ((time - begin) / 1000 / seconds) * (width - left - right)

  const body: string[] = []
  const rowOf = new Map<string, { y: number; height: number }>()
  let y = top
  machines.forEach(({ id, name }) => {
    const lanes = lanesOf(shown.filter(({ machine }) => machine === id))
    const height = lanes.length * laneHeight
    rowOf.set(id, { y, height })
    body.push(`<text x="${left - 10}" y="${n(y + height / 2 + 4)}" text-anchor="end">${escaped(name)}</text>`)
    lanes.forEach((lane, laneIndex) => {
      lane.forEach((attempt, index) => {
        const kind = kindOf(attempt)
        const from = x(attempt.start)
        // what took no time to speak of is seen all the same
        const long = Math.max(1, x(attempt.end) - from - 1)
        const barY = y + laneIndex * laneHeight + 1
        const during = `${n((attempt.start - begin) / 1000)} to ${n((attempt.end - begin) / 1000)} s`
        const tip = `task ${attempt.task}, attempt ${attempt.epoch} on ${name}: ${kindLabels[kind]}${attempt.ended ? ` (${attempt.ended})` : ''}, ${during}`
        const label =
          long > 7 * attempt.task.length + 4
            ? `<text class="bar${kind === 'ended' || kind === 'running' ? ' onhatch' : ''}" x="${n(from + long / 2)}" y="${n(barY + 12.5)}">${escaped(attempt.task)}</text>`
            : ''
        body.push(
          `<g><title>${escaped(tip)}</title><rect class="${kind}${index % 2 ? ' odd' : ''}" x="${n(from)}" y="${n(barY)}" width="${n(long)}" height="${laneHeight - 2}" rx="2"/>${label}</g>`,
        )
      })
    })
    y += height + rowGap
  })
  const bottom = y

  const axis: string[] = []
  const step = niceStep(seconds)
  for (let mark = 0; mark * step <= seconds; mark++) {
    const at = n(x(begin + mark * step * 1000))
    axis.push(`<line class="line" x1="${at}" y1="${top - 6}" x2="${at}" y2="${bottom}"/>`)
    axis.push(`<text class="quiet" x="${at}" y="${bottom + 16}" text-anchor="middle">${n(mark * step)} s</text>`)
  }

  const marks = events.map(({ time, machine, label }) => {
    const row = machine === undefined ? undefined : rowOf.get(machine)
    const [y1, y2] = row === undefined ? [top - 6, bottom] : [row.y - 4, row.y + row.height + 4]
    // beside the line, on the side where there is room
    const late = x(time) > width / 2
    const said = `${label} at ${n((time - begin) / 1000)} s`
    return (
      `<line class="event" x1="${n(x(time))}" y1="${y1}" x2="${n(x(time))}" y2="${y2}"/>` +
      `<text class="said" x="${n(x(time) + (late && row === undefined ? -6 : 6))}" y="${row === undefined ? top - 10 : n(row.y + row.height / 2 + 4)}"` +
      `${late && row === undefined ? ' text-anchor="end"' : ''}>${escaped(said)}</text>`
    )
  })

  const legend: string[] = []
  let legendX = left
  for (const kind of new Set(shown.map(kindOf))) {
    const text = kindLabels[kind]
    legend.push(`<rect class="${kind}" x="${legendX}" y="${bottom + 31}" width="14" height="12" rx="2"/>`)
    legend.push(`<text class="quiet" x="${legendX + 20}" y="${bottom + 41}">${text}</text>`)
    legendX += 44 + 6.4 * text.length
  }

  const height = bottom + 56
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${style}</style>`,
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V6" stroke="#cf222e" stroke-width="2" stroke-opacity="0.5"/></pattern></defs>',
    `<rect class="ground" width="${width}" height="${height}"/>`,
    `<text class="title" x="${left}" y="22">${escaped(title)}</text>`,
    ...axis,
    ...body,
    ...marks,
    ...legend,
    '</svg>',
    '',
  ].join('\n')
}
