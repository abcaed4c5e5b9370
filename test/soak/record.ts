/** What a soak leaves in its directory: samples, what happened, the picture and the verdict, up to date at every moment. */
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Mark, soakSvg } from './plot.ts'
import type { Measured } from './sampler.ts'
import { growths, measures, verdictLines, warmUpSeconds } from './verdict.ts'

const columns = ['time', 'node', 'life', 'pid', ...measures, 'cpu'] as const

export class Record {
  readonly #dir: string
  readonly #samples: Measured[] = []
  readonly #marks: Mark[] = []
  readonly #broken: string[] = []
  readonly #begin = performance.now()

  constructor(dir: string) {
    this.#dir = dir
    mkdirSync(dir, { recursive: true })
    this.#write('samples.csv', `${columns.join(',')}\n`)
    this.#write('samples.jsonl', '')
    this.#write('log.txt', '')
  }

  /** Since the beginning. */
  get seconds(): number {
    return (performance.now() - this.#begin) / 1000
  }

  /** A line for people, with the time. */
  say(text: string): void {
    const line = `${(this.seconds / 60).toFixed(1).padStart(6)} min  ${text}`
    console.log(line)
    appendFileSync(join(this.#dir, 'log.txt'), `${line}\n`)
  }

  mark(node: string, label: string): void {
    this.#marks.push({ time: this.seconds, node, label })
  }

  broke(sentence: string): void {
    this.#broken.push(sentence)
    this.say(`BROKEN: ${sentence}`)
  }

  add(samples: readonly Measured[]): void {
    this.#samples.push(...samples)
    for (const sample of samples) {
      const cells = columns.map((column) => {
        const value = sample[column]
        return typeof value === 'number' ? String(Math.round(value * 1000) / 1000) : (value ?? '')
      })
      appendFileSync(join(this.#dir, 'samples.csv'), `${cells.join(',')}\n`)
      appendFileSync(join(this.#dir, 'samples.jsonl'), `${JSON.stringify(sample)}\n`)
    }
  }

  /** Share of one core that all lives of all nodes have used so far. */
  get load(): number {
    const lives = Map.groupBy(this.#samples, ({ node, life }) => `${node}#${life}`)
    return [...lives.values()].reduce((sum, life) => sum + life.at(-1)!.cpu, 0) / this.seconds
  }

  /** Writes picture and verdict as of now. Answers whether all is well. */
  conclude(title: string, totals: object): { well: boolean; lines: string[] } {
    const run = this.seconds
    const warmUp = warmUpSeconds(run)
    const all = growths(this.#samples, warmUp)
    const well = this.#broken.length === 0 && !all.some(({ grows }) => grows)
    const invariants = this.#broken.length === 0 ? ['Every invariant held.'] : this.#broken.map((sentence) => `BROKEN: ${sentence}`)
    const lines = [...invariants, ...verdictLines(all)]
    this.#write(
      'verdict.json',
      JSON.stringify(
        { title, well, seconds: run, ...totals, warmUpSeconds: warmUp, broken: this.#broken, growths: all, marks: this.#marks },
        undefined,
        2,
      ),
    )
    this.#write('soak.svg', soakSvg({ title, samples: this.#samples, marks: this.#marks, warmUpSeconds: warmUp }))
    return { well, lines }
  }

  #write(name: string, text: string): void {
    writeFileSync(join(this.#dir, name), text)
  }
}
