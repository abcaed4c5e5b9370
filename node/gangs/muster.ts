/** Who of a gang has come, who reaches whom, and who is gone: what the primary's machine decides. Pure. */
import { lostAfterMs, maxMeshed, type Presence, pingMs, type Unreached } from '../../protocols/groups.ts'

/** What a failure says of pairs that did not reach each other. */
const maxNamed = 12
/** Of the names and reasons in a message of at most 4096: a machine's name may have 255. */
const maxNamedChars = 3600

/** Members by index; each may say what it says again, where its channel was opened anew. */
export class Muster {
  readonly #presences: (Presence | undefined)[]
  readonly #reports: (readonly Unreached[] | undefined)[]
  #missing: number
  #unreported: number

  constructor(size: number) {
    this.#presences = new Array<undefined>(size).fill(undefined)
    this.#reports = new Array<undefined>(size).fill(undefined)
    this.#missing = size
    this.#unreported = size
  }

  /** What all have brought, once they have. */
  get presences(): readonly Presence[] | undefined {
    return this.#missing === 0 ? (this.#presences as Presence[]) : undefined
  }

  /** True when all have come with this one. */
  bring(index: number, presence: Presence): boolean {
    // Until the others are told, a member that starts its part again may bring another card.
    if (this.#missing === 0) return false
    if (this.#presences[index] === undefined) this.#missing -= 1
    this.#presences[index] = presence
    return this.#missing === 0
  }

  /** True when all have said whom they reached with this one. */
  report(index: number, unreached: readonly Unreached[]): boolean {
    if (this.#missing > 0 || this.#reports[index] !== undefined) return false
    this.#reports[index] = unreached
    this.#unreported -= 1
    return this.#unreported === 0
  }

  /** Who did not reach whom, in a sentence; undefined when all reached their own. */
  unreached(nameOf: (index: number) => string): string | undefined {
    const pairs = this.#reports.flatMap((report, from) => (report ?? []).map(({ index, why }) => ({ from, index, why })))
    if (pairs.length === 0) return undefined
    const named = pairs.slice(0, maxNamed).map(({ from, index, why }) => `${nameOf(from)} does not reach ${nameOf(index)} (${why})`)
    const more = pairs.length > maxNamed ? ` and ${pairs.length - maxNamed} more` : ''
    const pairsText = named.join('; ')
    const shown = pairsText.length > maxNamedChars ? `${pairsText.slice(0, maxNamedChars)}…` : pairsText
    return `Members of the group cannot reach each other: ${shown}${more}. Open TCP between these machines (all ports), or give the task to machines of one network (labels).`
  }
}

/** Which others a member of a gang dials before the start. */
export function toReach(index: number, size: number): number[] {
  if (size <= maxMeshed) return Array.from({ length: size }, (_, other) => other).filter((other) => other !== index)
  return [...new Set([0, (index + 1) % size])].filter((other) => other !== index)
}

/** Signs of life. Times are of a clock that nobody sets. */
export class Vigil {
  readonly #heardAt = new Map<number, number>()
  readonly #lost = new Set<number>()
  #askedAt: number | undefined

  heard(index: number, now: number): void {
    if (!this.#lost.has(index)) this.#heardAt.set(index, now)
  }

  /** True if it was not lost before. */
  lose(index: number): boolean {
    if (this.#lost.has(index)) return false
    this.#lost.add(index)
    this.#heardAt.delete(index)
    return true
  }

  isLost(index: number): boolean {
    return this.#lost.has(index)
  }

  get lost(): readonly number[] {
    return [...this.#lost]
  }

  /** Who has been silent for too long. Asked every {@link pingMs}; where that comes late this machine slept, and nobody was silent meanwhile. */
  silent(now: number): number[] {
    const lateMs = this.#askedAt === undefined ? 0 : now - this.#askedAt - pingMs
    this.#askedAt = now
    if (lateMs > pingMs) for (const [index, at] of this.#heardAt) this.#heardAt.set(index, Math.min(now, at + lateMs))
    return [...this.#heardAt].filter(([, at]) => now - at > lostAfterMs).map(([index]) => index)
  }
}
