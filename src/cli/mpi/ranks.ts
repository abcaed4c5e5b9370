/**
 * Lines of ranks. mpirun names the rank of each piece of output that it passes on: Open MPI (`--tag-output`) as
 * `[1,0]<stdout>:text`, its version 5 (PRRTE) as `[prterun-host-7@1,0]<stdout>: text`, MPICH (`-prepend-rank`) as
 * `[0] text`. A piece is what the rank wrote at once, so that a line may be made of several, with those of other ranks
 * between them. Pure; text is one character a byte.
 */

/** A whole line, without its end. */
export interface RankLine {
  /** Undefined: it is no rank's, such as what mpirun itself says. */
  rank: number | undefined
  text: string
}

const tag = /\[(?:\d+|[^\]@\s]*@\d+),(\d+)\]<(?:stdout|stderr|stddiag)>:/g
const mpichTag = /^\[(\d+)\] /
/** What a rank has written without the end of a line is kept up to here, then it counts as one. */
const maxKept = 1 << 20

export class RankReader {
  #rest = ''
  /** Lines that were begun, by rank. */
  readonly #begun = new Map<number | undefined, string>()

  /** Takes what comes next, and answers the lines that it ends. */
  push(text: string): RankLine[] {
    const ended: RankLine[] = []
    const all = this.#rest + text
    const end = all.lastIndexOf('\n')
    if (end < 0 && all.length < maxKept) {
      this.#rest = all
      return ended
    }
    const whole = end < 0 ? all : all.slice(0, end)
    this.#rest = end < 0 ? '' : all.slice(end + 1)
    for (const line of whole.split('\n')) this.#line(line, ended)
    return ended
  }

  /** What is left at the end. */
  end(): RankLine[] {
    const ended: RankLine[] = []
    if (this.#rest !== '') this.#line(this.#rest, ended)
    this.#rest = ''
    for (const [rank, text] of this.#begun) ended.push({ rank, text })
    this.#begun.clear()
    return ended
  }

  #line(line: string, ended: RankLine[]): void {
    const mpich = mpichTag.exec(line)
    if (mpich !== null) {
      ended.push({ rank: Number(mpich[1]), text: line.slice(mpich[0].length) })
      return
    }
    let rank: number | undefined
    let from = 0
    for (const found of line.matchAll(tag)) {
      // What stands before a tag has no end of its line yet.
      this.#keep(rank, line.slice(from, found.index), ended)
      rank = Number(found[1])
      from = found.index + found[0].length
      if (found[0].includes('@') && line[from] === ' ') from += 1
    }
    const text = (this.#begun.get(rank) ?? '') + line.slice(from)
    this.#begun.delete(rank)
    ended.push({ rank, text })
  }

  #keep(rank: number | undefined, text: string, ended: RankLine[]): void {
    if (text === '') return
    // mpirun's own words are no part of any rank's line.
    if (rank === undefined) ended.push({ rank, text })
    else this.#begun.set(rank, (this.#begun.get(rank) ?? '') + text)
  }
}

const colours = [36, 33, 32, 35, 34, 31]

/** A line as it is shown: behind its rank. */
export function shownLine({ rank, text }: RankLine, isColoured: boolean): string {
  if (rank === undefined) return `${text}\n`
  const prefix = `[${rank}]`
  return `${isColoured ? `\u001b[${colours[rank % colours.length]}m${prefix}\u001b[39m` : prefix} ${text}\n`
}
