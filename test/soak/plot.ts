/** Small multiples of a soak as one SVG: a row for each measure, a column for each process, time to the right. Pure. */
import { escaped, n } from '../../src/timeline.ts'
import { limits, type Measure, measures, type Sample } from './verdict.ts'

export interface Mark {
  /** Of the run, in seconds. */
  time: number
  /** Node that it happened to. */
  node: string
  label: string
}

const width = 1280
const left = 118
const right = 12
const top = 62
const rowHeight = 96
const gap = 14

const titles: Record<Measure, string> = {
  heap: 'heap after GC',
  external: 'external',
  rss: 'resident',
  handles: 'handles',
  fds: 'descriptors',
  threads: 'threads',
  processes: 'child processes',
  disk: 'data directory',
  database: 'its databases',
  cache: 'cached blobs',
  lag: 'loop lag',
}

const style = `
  .ground { fill: #ffffff } text { fill: #24292f; font: 11px system-ui, sans-serif } .title { font-size: 15px; font-weight: 600 } .head { font-weight: 600 }
  .quiet { fill: #57606a } .frame { fill: none; stroke: #d0d7de } .warm { fill: #8b949e; fill-opacity: 0.12 } .mark { stroke: #cf222e; stroke-opacity: 0.35 } .line { fill: none; stroke: #2a7fc9; stroke-width: 1.2 }
  @media (prefers-color-scheme: dark) { .ground { fill: #0d1117 } text { fill: #e6edf3 } .quiet { fill: #9da7b3 } .frame { stroke: #30363d } .line { stroke: #58a6ff } .mark { stroke: #ff7b72 } }
`

/** Least power of ten times 1, 2 or 5 that is not below the value. */
function ceiling(value: number): number {
  if (value <= 0) return 1
  const power = 10 ** Math.floor(Math.log10(value))
  return power * ([1, 1.5, 2, 3, 5, 7.5].find((factor) => power * factor >= value) ?? 10)
}

export interface Plot {
  title: string
  samples: readonly Sample[]
  marks: readonly Mark[]
  /** Of each life: shown grey. */
  warmUpSeconds: number
}

/** The picture as the text of an SVG file. All cells of a row have one scale, from zero. */
export function soakSvg({ title, samples, marks, warmUpSeconds }: Plot): string {
  const nodes = [...new Set(samples.map(({ node }) => node))]
  const span = Math.max(1, ...samples.map(({ time }) => time))
  const cellWidth = (width - left - right) / Math.max(1, nodes.length) - gap
  const height = top + measures.length * (rowHeight + gap) + 24
  const body: string[] = []
  nodes.forEach((node, column) => {
    body.push(`<text class="head" x="${n(left + column * (cellWidth + gap))}" y="${top - 10}">${escaped(node)}</text>`)
  })
  measures.forEach((measure, row) => {
    const values = samples.flatMap((sample) => (sample[measure] === undefined ? [] : [sample[measure]]))
    const most = ceiling(Math.max(0, ...values))
    const y0 = top + row * (rowHeight + gap)
    const y = (value: number) => y0 + rowHeight - (value / most) * rowHeight
    body.push(`<text class="head" x="${left - 8}" y="${y0 + 22}" text-anchor="end">${titles[measure]}</text>`)
    body.push(`<text class="quiet" x="${left - 8}" y="${y0 + 9}" text-anchor="end">${n(most)} ${limits[measure].unit}</text>`)
    body.push(`<text class="quiet" x="${left - 8}" y="${y0 + rowHeight}" text-anchor="end">0</text>`)
    nodes.forEach((node, column) => {
      const x0 = left + column * (cellWidth + gap)
      const x = (time: number) => x0 + (time / span) * cellWidth
      body.push(`<rect class="frame" x="${n(x0)}" y="${y0}" width="${n(cellWidth)}" height="${rowHeight}"/>`)
      for (const mark of marks.filter((one) => one.node === node))
        body.push(
          `<line class="mark" x1="${n(x(mark.time))}" y1="${y0}" x2="${n(x(mark.time))}" y2="${y0 + rowHeight}"><title>${escaped(`${mark.label} at ${Math.round(mark.time / 60)} min`)}</title></line>`,
        )
      const lives = Map.groupBy(
        samples.filter((sample) => sample.node === node),
        ({ life }) => life,
      )
      for (const life of lives.values()) {
        const begin = life[0]!.time
        const warm = Math.min(begin + warmUpSeconds, life.at(-1)!.time)
        body.push(`<rect class="warm" x="${n(x(begin))}" y="${y0}" width="${n(x(warm) - x(begin))}" height="${rowHeight}"/>`)
        const points = life.flatMap((sample) => (sample[measure] === undefined ? [] : [`${n(x(sample.time))},${n(y(sample[measure]))}`]))
        if (points.length > 0) body.push(`<polyline class="line" points="${points.join(' ')}"/>`)
      }
    })
  })
  const said = `${n(Math.round(span / 60))} min; grey: warm-up of a life; red: a fault`
  body.push(`<text class="quiet" x="${left}" y="${height - 10}">${said}</text>`)
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${style}</style>`,
    `<rect class="ground" width="${width}" height="${height}"/>`,
    `<text class="title" x="${left}" y="26">${escaped(title)}</text>`,
    ...body,
    '</svg>',
    '',
  ].join('\n')
}
