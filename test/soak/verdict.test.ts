import { describe, expect, it } from 'vitest'
import { growths, type Sample, theilSen, verdictLines, warmUpSeconds } from './verdict.ts'

const warmUp = 600

/** Two hours of a node, a sample every 15 s. */
function life(measure: 'heap' | 'lag' | 'fds', value: (hours: number, at: number) => number, seconds = 7200): Sample[] {
  return Array.from({ length: Math.floor(seconds / 15) }, (_, at) => ({
    time: at * 15,
    node: 'w1',
    life: 1,
    [measure]: value((at * 15) / 3600, at),
  }))
}

/** Up and down by one, without a trend. */
const wobble = (at: number) => ((at * 7919) % 201) / 100 - 1

describe('the slope of a measure', () => {
  it('is the line through most samples, whatever a third of them do', () => {
    const points = Array.from({ length: 90 }, (_, x) => ({ x, y: x % 4 === 3 ? 1e6 : 5 + 2 * x }))
    expect(theilSen(points)).toBeCloseTo(2)
  })

  it('does not exist for samples of one moment', () => {
    expect(theilSen([])).toBeUndefined()
    expect(theilSen([{ x: 1, y: 2 }])).toBeUndefined()
    expect(
      theilSen([
        { x: 1, y: 2 },
        { x: 1, y: 3 },
      ]),
    ).toBeUndefined()
  })
})

describe('a measure', () => {
  it('grows when it rises beyond the limit under its noise', () => {
    const [heap] = growths(
      life('heap', (hours, at) => 40 + 6 * hours + wobble(at)),
      warmUp,
    )
    expect(heap).toMatchObject({ node: 'w1', life: 1, measure: 'heap', grows: true })
    expect(heap!.perHour).toBeCloseTo(6, 0)
  })

  it('is flat when only its warm-up rises', () => {
    const [heap] = growths(
      life('heap', (hours, at) => 40 + 60 * Math.min(hours, 1 / 6) + wobble(at)),
      warmUp,
    )
    expect(heap!.grows).toBe(false)
  })

  it('is flat when single samples are far out', () => {
    const [lag] = growths(
      life('lag', (hours, at) => (at % 5 === 0 ? 4000 * hours : 10 + wobble(at))),
      warmUp,
    )
    expect(lag!.grows).toBe(false)
  })

  it('is flat when a steep line comes to less than its noise in the time that was seen', () => {
    const [fds] = growths(
      life('fds', (hours) => 30 + 5 * hours, 1830),
      warmUp,
    )
    expect(fds).toMatchObject({ grows: false })
    expect(fds!.perHour).toBeGreaterThan(4)
  })

  it('is not judged in a life that ended soon after its warm-up', () => {
    expect(
      growths(
        life('heap', (hours) => 40 + 100 * hours, 1500),
        warmUp,
      ),
    ).toEqual([])
  })

  it('is judged for each life alone: one that begins lower hides no growth', () => {
    const first = life('heap', (hours) => 40 + 20 * hours)
    const second = life('heap', (hours) => 20 + 20 * hours).map((sample) => ({ ...sample, time: sample.time + 7200, life: 2 }))
    expect(growths([...first, ...second], warmUp).map(({ life: which, grows }) => [which, grows])).toEqual([
      [1, true],
      [2, true],
    ])
  })
})

describe('the verdict', () => {
  it('names what grows, with its limit', () => {
    const lines = verdictLines(
      growths(
        life('heap', (hours) => 40 + 6 * hours),
        warmUp,
      ),
    )
    expect(lines.at(-1)).toBe('GROWS: heap of w1#1 by 6 MiB an hour; the limit is 4')
  })

  it('says when nothing grows, and when nothing could be judged', () => {
    expect(
      verdictLines(
        growths(
          life('heap', () => 40),
          warmUp,
        ),
      ).at(-1),
    ).toBe('Nothing grows.')
    expect(verdictLines([])).toEqual(['Growth was not judged: no process lived long enough after its warm-up.'])
  })

  it('leaves out a fifth of a short run and 15 minutes of a long one', () => {
    expect(warmUpSeconds(600)).toBe(120)
    expect(warmUpSeconds(86_400)).toBe(900)
  })
})
