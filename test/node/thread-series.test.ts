/** Series of calls in a job's real child process: order, what is taken back, directories made when they are looked for. */
import { existsSync, readFileSync } from 'node:fs'
import { deserialize } from 'node:v8'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Called, Seat, Series, SeriesCall, TaskPaths } from '../../node/ports.ts'
import { pathsIn } from '../../node/task-paths.ts'
import { threadTaskSchema } from '../../protocols/model/thread-task.ts'
import { ThreadLab } from './thread-lab.ts'

let lab: ThreadLab
let seats: Seat[] = []
let count = 0

beforeAll(async () => {
  lab = await ThreadLab.open()
})
afterEach(() => {
  for (const seat of seats) seat.release()
  seats = []
})
afterAll(() => lab.close())

type End = Called | 'returned' | Error

/** A call that remembers what became of it. */
class Probe implements SeriesCall {
  readonly taskId: string
  readonly dir: string
  readonly isPlaced = false
  readonly args: undefined
  readonly settings = [{ name: 'OWN', value: 'x' }]
  readonly start = Promise.withResolvers<number>()
  readonly #end = Promise.withResolvers<End>()
  readonly over: Promise<End> = this.#end.promise
  paths: TaskPaths | undefined
  /** Set: it is handed over again when it is returned, as it is whenever something before it takes a moment. */
  series: Series | undefined

  constructor(seat: Seat, jobUid: number) {
    count += 1
    this.taskId = `S${count}`
    this.dir = `s${count}`
    this.place = () => {
      this.paths = lab.tasks.directories.make({ jobUid, task: this.dir, epoch: 1 }, `job-of-${jobUid}`, seat.owner)
    }
  }

  place: () => void

  began(at: number): void {
    this.start.resolve(at)
  }
  ended(called: Called): void {
    this.#end.resolve(called)
  }
  returned(): void {
    try {
      if (this.series !== undefined) return this.series.add([this])
    } catch {
      // The process is gone.
    }
    this.#end.resolve('returned')
  }
  failed(error: unknown): void {
    this.#end.resolve(error as Error)
  }

  async result(): Promise<unknown> {
    const called = (await this.over) as Called
    return called.value !== undefined && 'bytes' in called.value ? deserialize(called.value.bytes) : called
  }
}

async function open(module: string, calls: number, jobUid = 1): Promise<{ series: Series; probes: Probe[] }> {
  const seat = await lab.seat(jobUid)
  seats.push(seat)
  const thread = {
    ...threadTaskSchema.parse({ module: 'bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku' }),
    module,
    name: 'work.mjs',
  }
  const series = await seat.series({ thread, heapMiB: 128, env: { SHARED: 'y' } }, new AbortController().signal)
  const probes = Array.from({ length: calls }, () => new Probe(seat, jobUid))
  for (const probe of probes) probe.series = series
  series.add(probes)
  return { series, probes }
}

describe('a series of calls', () => {
  it('is made in order by one thread, without a directory for any', async () => {
    const { probes } = await open('let n = 0\nexport default () => ++n', 300)
    expect(await Promise.all(probes.map((probe) => probe.result()))).toEqual(Array.from({ length: 300 }, (_, at) => at + 1))
    expect(probes.filter(({ paths }) => paths !== undefined)).toEqual([])
  })

  it('sees the environment of each task, whatever the one before did to it', async () => {
    const module = `import { env } from 'node:process'
export default () => { const seen = [env.AZ_BATCH_TASK_ID, env.OWN, process.env.SHARED, process.env.LEFT, 'OWN' in env, 'HOME' in env]; process.env.LEFT = 1; delete process.env.OWN; return [...seen, process.env.LEFT, process.env.OWN] }`
    const { probes } = await open(module, 2)
    for (const probe of probes) expect(await probe.result()).toEqual([probe.taskId, 'x', 'y', undefined, true, true, '1', undefined])
    expect(probes[0]!.paths).toBeUndefined()
  })

  it.each([
    [
      'reads a path in it',
      `import { writeFileSync } from 'node:fs'\nexport default () => writeFileSync(process.env.AZ_BATCH_TASK_WORKING_DIR + '/mine', 'mine')`,
    ],
    ['prints', `export default () => console.log('printed')`],
    ['returns what is large', `export default () => new Uint8Array(100_000)`],
    [
      'wants a temporary file',
      `import { mkdtempSync } from 'node:fs'\nimport { tmpdir } from 'node:os'\nexport default () => mkdtempSync(tmpdir() + '/x')`,
    ],
    ['spreads its environment', `export default () => ({ ...process.env })`],
  ])('makes the directory of a task whose function %s', async (_, module) => {
    const { probes } = await open(module, 2)
    for (const probe of probes) {
      expect(await probe.over).toMatchObject({ exitCode: 0 })
      const { taskDir, wd, stdout, stderr } = probe.paths!
      expect(taskDir).toBe(pathsIn(taskDir).taskDir)
      expect([wd, stdout, stderr].every(existsSync)).toBe(true)
      expect(readFileSync(stdout, 'utf8')).toBe(module.includes('printed') ? 'printed\n' : '')
    }
  })

  it('goes on with another thread after a function that threw, left something, or ended its thread', async () => {
    const module = `let n = 0
export default () => {
  const id = process.env.AZ_BATCH_TASK_ID
  n += 1
  if (n === 2) { n = 100; setInterval(() => {}, 1000) }
  if (n === 1 && globalThis.never) return
  return n
}`
    const { probes } = await open(module, 4)
    expect(await Promise.all(probes.map((probe) => probe.result()))).toEqual([1, 100, 1, 100])
    const exits = await open(
      `let n = 0\nexport default () => { if (++n === 2) process.exit(3); if (n === 3) throw new Error('x'); return n }`,
      4,
    )
    const [one, two, three, four] = await Promise.all(exits.probes.map(({ over }) => over))
    expect(one).toMatchObject({ exitCode: 0 })
    expect(two).toMatchObject({ exitCode: 3, failureInfo: { code: 'ThreadEnded' } })
    expect(three).toMatchObject({ exitCode: 0 })
    expect(four).toMatchObject({ exitCode: 3 })
  })

  it('blames what a function rejected unheard on nobody that came after', async () => {
    const { probes } = await open(`let n = 0\nexport default () => { if (++n === 2) Promise.reject(new Error('unheard')); return n }`, 3)
    const results = await Promise.all(probes.map((probe) => probe.result()))
    expect([results[0], results[2]]).toEqual([1, 1])
  })

  it('says when one goes on for a moment, and returns what waits behind it', async () => {
    const { series, probes } = await open('export default () => new Promise((done) => setTimeout(done, 60_000))', 4)
    for (const probe of probes) probe.series = undefined
    expect(await probes[0]!.start.promise).toBeLessThanOrEqual(Date.now())
    expect(await Promise.all(probes.slice(1).map(({ over }) => over))).toEqual(['returned', 'returned', 'returned'])
    series.stop(probes[0]!)
    expect(await probes[0]!.over).toMatchObject({ exitCode: 137, killed: true })
  })

  it('ends a call that has not begun without its thread, and takes back exactly what has not begun', async () => {
    const module = `let n = 0\nexport default () => { const until = Date.now() + 4; while (Date.now() < until); return ++n }`
    const { series, probes } = await open(module, 30)
    for (const probe of probes) probe.series = undefined
    const last = probes.at(-1)!
    series.stop(last)
    series.takeBack(probes.slice(10))
    const ends = await Promise.all(probes.map(({ over }) => over))
    expect(ends.at(-1) === 'returned' || (ends.at(-1) as Called).killed).toBe(true)
    const ran = ends.filter((end) => end !== 'returned' && !(end as Called).killed)
    expect(ends.slice(0, ran.length)).toEqual(ran)
    const again = await lab.call(module.replace('++n', 'n'), { name: 'other.mjs' })
    expect(again.result).toBe(0)
    const another = new Probe(seats[0]!, 1)
    series.add([another])
    expect(await another.result()).toBe(ran.length + 1)
  })

  it('that ends its process is lost as far as it is known to have begun; the rest is returned, and all are alone from then on', async () => {
    const crash = `let n = 0\nexport default () => { if (++n === 5) process.kill(process.pid, 'SIGKILL'); return n }`
    const { series, probes } = await open(crash, 1, 7)
    expect(await probes[0]!.result()).toBe(1)
    const more = Array.from({ length: 10 }, () => new Probe(seats[0]!, 7))
    for (const probe of more) probe.series = series
    series.add(more)
    const ends = await Promise.all(more.map(({ over }) => over))
    const lost = ends.filter((end) => end instanceof Error)
    expect(lost).toMatchObject([{ info: { code: 'ThreadHostLost' } }])
    expect(ends.filter((end) => end === 'returned').length).toBeGreaterThanOrEqual(5)
    expect(series.isAlone()).toBe(true)
    expect(() => series.add([new Probe(seats[0]!, 7)])).toThrow(/gone/)
    const alone = await open(`export default () => process.kill(process.pid, 'SIGKILL')`, 1, 7)
    expect(await alone.probes[0]!.over).toMatchObject({ exitCode: 137, failureInfo: { code: 'ThreadEnded' } })
  })
})
