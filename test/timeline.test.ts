import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { attemptsOf, type Timeline, type TimelineAttempt, timelineSvg } from '../src/timeline.ts'

/** Throws unless the text is one well-formed XML element: tags nest, attributes are quoted, no stray mark or control character. */
function checkWellFormed(text: string): number {
  const open: string[] = []
  let elements = 0
  const token = /<(\/?)([A-Za-z][\w:.-]*)((?:\s+[A-Za-z][\w:.-]*="[^"<]*")*)\s*(\/?)>|([^<]+)|([\s\S])/g
  for (const [whole, closing, name = '', attributes = '', empty, characters] of text.matchAll(token)) {
    const plain = characters ?? attributes
    if (name === '' && characters === undefined) throw new Error(`stray mark: ${whole}`)
    if (/&(?!amp;|lt;|gt;|quot;|#\d+;)/.test(plain)) throw new Error(`unescaped &: ${plain}`)
    if (/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u.test(plain)) throw new Error('control character')
    if (name === '') {
      if (open.length === 0 && plain.trim() !== '') throw new Error(`text outside: ${plain}`)
      continue
    }
    elements++
    if (closing === '/') {
      if (open.pop() !== name) throw new Error(`</${name}> closes nothing`)
    } else {
      const names = [...attributes.matchAll(/([\w:.-]+)="/g)].map((match) => match[1])
      if (new Set(names).size !== names.length) throw new Error(`attribute twice: ${attributes}`)
      if (empty !== '/') open.push(name)
    }
  }
  if (open.length > 0) throw new Error(`left open: ${open.join(' ')}`)
  return elements
}

const begin = 1_780_000_000_000
const attempt = (task: string, machine: string, from: number, to: number, more: Partial<TimelineAttempt> = {}): TimelineAttempt => ({
  task,
  machine,
  start: begin + from * 1000,
  end: begin + to * 1000,
  ended: 'success',
  epoch: 1,
  ...more,
})

const film: Timeline = {
  title: 'film: 6 frames on 3 nodes',
  machines: [
    { id: 'p1', name: 'one' },
    { id: 'p2', name: 'two' },
    { id: 'p3', name: 'three' },
  ],
  attempts: [
    attempt('1', 'p1', 0, 2),
    attempt('2', 'p2', 0.1, 1.5),
    attempt('3', 'p2', 1.5, 3, { ended: 'lost' }),
    attempt('4', 'p1', 2, 4),
    attempt('3', 'p3', 3.5, 5.25, { epoch: 2 }),
    attempt('5', 'p3', 3.6, 5, { ended: 'failure' }),
    attempt('6', 'p1', 4, 6, { ended: undefined }),
  ],
  events: [{ time: begin + 3000, machine: 'p2', label: 'killed' }],
}

/** Each bar as `class x y width`. */
const bars = (svg: string): string[] =>
  [...svg.matchAll(/<\/title><rect class="([^"]*)" x="([^"]*)" y="([^"]*)" width="([^"]*)"/g)].map((match) => match.slice(1, 5).join(' '))

describe('a timeline', () => {
  it('is the same picture as the one that was looked at', async () => {
    await expect(timelineSvg(film)).toMatchFileSnapshot('./timeline.golden')
  })

  it('shows an attempt after a lost one as run again, and the lost one as cut short', () => {
    const svg = timelineSvg(film)
    expect(svg).toContain('task 3, attempt 1 on two: cut short by no fault of its own (lost), 1.5 to 3 s')
    expect(svg).toContain('task 3, attempt 2 on three: run again, and done (success), 3.5 to 5.25 s')
    expect(svg).toContain('killed at 3 s')
  })

  it('puts attempts that overlap on one machine into lanes of their own', () => {
    const lanes = bars(timelineSvg({ ...film, machines: [{ id: 'p3', name: 'three' }], events: [] })).map((bar) => bar.split(' ').at(-2))
    expect(new Set(lanes).size).toBe(2)
  })

  it('puts attempts that follow each other into one lane', () => {
    const lanes = bars(timelineSvg({ ...film, machines: [{ id: 'p1', name: 'one' }], events: [] })).map((bar) => bar.split(' ').at(-2))
    expect(lanes).toHaveLength(3)
    expect(new Set(lanes).size).toBe(1)
  })

  it('is well-formed with nothing in it', () => {
    expect(checkWellFormed(timelineSvg({ title: '', machines: [], attempts: [] }))).toBeGreaterThan(3)
  })

  it('is well-formed whatever the names, and keeps every bar on the picture', () => {
    const name = fc.string({ unit: 'binary', maxLength: 12 })
    const one = fc.record({
      task: name,
      machine: fc.constantFrom('p1', 'p2', 'p3'),
      start: fc.integer({ min: begin, max: begin + 10_000 }),
      end: fc.integer({ min: begin + 10_000, max: begin + 100_000 }),
      ended: fc.constantFrom('success', 'failure', 'lost', undefined),
      epoch: fc.integer({ min: 1, max: 9 }),
    })
    fc.assert(
      fc.property(name, fc.array(one, { maxLength: 20 }), (title, attempts) => {
        const machines = film.machines.map(({ id }) => ({ id, name: `${id}${title}` }))
        const svg = timelineSvg({ title, machines, attempts: attempts as TimelineAttempt[], events: [{ time: begin, label: title }] })
        checkWellFormed(svg)
        const drawn = bars(svg)
        expect(drawn).toHaveLength(attempts.length)
        for (const bar of drawn) {
          const [x = Number.NaN, , width = Number.NaN] = bar.split(' ').slice(-3).map(Number)
          expect(x).toBeGreaterThanOrEqual(0)
          expect(x + width).toBeLessThanOrEqual(960)
        }
      }),
    )
  })

  it('is made of the attempts whose program was started, the unfinished ones up to now', () => {
    const record = { machine: 'p1' as never, nodeId: 'n', grantTime: 1 }
    const tasks = [
      {
        id: 't',
        attempts: [
          { ...record, epoch: 1, startTime: 2, endTime: 5, end: 'lost' as const },
          { ...record, epoch: 2, end: 'requeued' as const },
          { ...record, epoch: 3, startTime: 7 },
        ],
      },
    ]
    expect(attemptsOf(tasks, 9)).toEqual([
      { task: 't', machine: 'p1', start: 2, end: 5, ended: 'lost', epoch: 1 },
      { task: 't', machine: 'p1', start: 7, end: 9, epoch: 3 },
    ])
  })
})

describe('the check of well-formedness', () => {
  it.each(['<a>', '<a></b>', '<a x=1/>', '<a x="1" x="2"/>', '<a>&</a>', '<a>< </a>', 'text<a/>', '<a>\u0000</a>'])(
    'refuses %j',
    (text) => {
      expect(() => checkWellFormed(text)).toThrow()
    },
  )
})
