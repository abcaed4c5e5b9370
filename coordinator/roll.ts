/**
 * The roll of a job: every task that was added by itself, in the order of submission, in a few dozen bytes each. It
 * says what a task is called, what it is like as far as scheduling goes, and what became of it; its spec is a row on
 * disk. Most tasks of a large job have nothing else in memory: those that move are in the book as well (task-book.ts).
 *
 *   pages   of 1,024 entries: ids one after the other, a byte a character; the kind of each; a mark each, once one has any
 *   table   entries by the hash of their folded id, open addressing; in 256 parts, so that none takes long to grow
 *
 * An id is compared with the id itself, never only by its hash. Ids are chosen by submitters, so the hash is made of words
 * of chance that nobody outside knows: without them ids could be chosen that all share one, and each search would walk
 * through all of them. Pure.
 */
import { foldId } from '../protocols/ids.ts'

/** What tasks of a roll have in common; equal kinds are one object. */
export interface Kind<Class> {
  readonly class: Class
  /** The task's own, where it has one. */
  readonly maxTaskRetryCount: number | undefined
  /** Of the encoded spec, rounded up to a power of two: bounds what one answer carries. */
  readonly specBytes: number
}

/** What became of an entry: nothing yet (0), or it is in the book, or it is completed (2 and more, state.ts: epochs begin with 1). */
export type Mark = number
export const inBook = 1
export const isCompleted = (mark: Mark): boolean => mark > inBook

const pageSize = 1024
const parts = 256
/** Entries a new page, and slots a new part of the table has. */
const least = 16

interface Page {
  count: number
  /** One after the other; an id ends where the next begins, the last at `idBytes`. */
  ids: Uint8Array
  idBytes: number
  starts: Uint16Array
  kinds: Uint32Array
  marks: Uint32Array | undefined
}

/** Slots hold entry numbers plus one; 0 is empty. */
interface Part {
  slots: Uint32Array
  count: number
}

/** Words of chance that a hash takes: one for each character (ASCII) at each place of an id. */
export const chanceWords = 64 * 128

export class Roll<Class extends { readonly key: string }> {
  size = 0
  /** Each id came after the one before: the order of the ids is that of the entries. */
  isAscending = true
  readonly #pages: Page[] = []
  readonly #table: (Part | undefined)[] = []
  readonly #kinds: Kind<Class>[] = []
  readonly #kindNumbers = new Map<string, number>()
  #lastKind = -1
  #lastId = ''
  readonly #chance: Uint32Array

  /** `chance`: {@link chanceWords}, drawn anew at each start of the process. */
  constructor(chance: Uint32Array) {
    this.#chance = chance
  }

  /** Adds a task that is not there yet; answers its number. */
  add(id: string, kind: Kind<Class>): number {
    const n = this.size
    const folded = foldId(id)
    if (n % pageSize === 0) this.#pages.push(newPage())
    addToPage(this.#pages.at(-1)!, id, this.#kindNumber(kind))
    this.size += 1
    this.#file(folded, n)
    this.isAscending &&= folded > this.#lastId
    this.#lastId = folded
    return n
  }

  /** The number of the task with this folded id. */
  find(folded: string): number | undefined {
    const hash = hashOf(this.#chance, folded)
    const part = this.#table[hash % parts]
    if (part === undefined) return undefined
    const { slots } = part
    for (let at = (hash >>> 8) % slots.length; slots[at] !== 0; at = (at + 1) % slots.length) {
      const n = slots[at]! - 1
      if (this.#isCalled(n, folded)) return n
    }
    return undefined
  }

  /** The id as it was given. */
  idAt(n: number): string {
    const { page, at } = this.#at(n)
    return String.fromCharCode(...page.ids.subarray(page.starts[at]!, endOf(page, at)))
  }

  kindAt(n: number): Kind<Class> {
    const { page, at } = this.#at(n)
    return this.#kinds[page.kinds[at]!]!
  }

  markAt(n: number): Mark {
    const { page, at } = this.#at(n)
    return page.marks?.[at] ?? 0
  }

  setMark(n: number, mark: Mark): void {
    const { page, at } = this.#at(n)
    page.marks ??= new Uint32Array(page.starts.length)
    page.marks[at] = mark
  }

  /** The first number from `from` on whose mark passes, `size` where none does; pages without marks are passed over as one. */
  nextMarked(from: number, passes: (mark: Mark) => boolean): number {
    const emptyPasses = passes(0)
    for (let n = from; n < this.size; ) {
      const { page, at } = this.#at(n)
      if (page.marks === undefined && emptyPasses) return n
      const { marks, count } = page
      if (marks !== undefined) for (let i = at; i < count; i += 1) if (passes(marks[i]!)) return n - at + i
      n += count - at
    }
    return this.size
  }

  /** Of an ascending roll: the first number whose id comes after a text. */
  firstAfter(text: string): number {
    let [low, high] = [0, this.size]
    while (low < high) {
      const middle = (low + high) >> 1
      if (foldId(this.idAt(middle)) <= text) low = middle + 1
      else high = middle
    }
    return low
  }

  #at(n: number): { page: Page; at: number } {
    return { page: this.#pages[Math.floor(n / pageSize)]!, at: n % pageSize }
  }

  #kindNumber(kind: Kind<Class>): number {
    const last = this.#kinds[this.#lastKind]
    const specBytes = roundedUp(kind.specBytes)
    if (last?.class === kind.class && last.maxTaskRetryCount === kind.maxTaskRetryCount && last.specBytes === specBytes)
      return this.#lastKind
    const key = `${kind.class.key}/${kind.maxTaskRetryCount}/${specBytes}`
    let number = this.#kindNumbers.get(key)
    if (number === undefined) {
      number = this.#kinds.push({ ...kind, specBytes }) - 1
      this.#kindNumbers.set(key, number)
    }
    this.#lastKind = number
    return number
  }

  #isCalled(n: number, folded: string): boolean {
    const { page, at } = this.#at(n)
    const start = page.starts[at]!
    if (endOf(page, at) - start !== folded.length) return false
    // From the end: ids of a job often begin alike.
    for (let i = folded.length - 1; i >= 0; i -= 1) if (foldCode(page.ids[start + i]!) !== folded.charCodeAt(i)) return false
    return true
  }

  /** The same as {@link hashOf} of the folded id. */
  #hashAt(n: number): number {
    const { page, at } = this.#at(n)
    const start = page.starts[at]!
    let hash = 0
    for (let i = start; i < endOf(page, at); i += 1) hash ^= wordOf(this.#chance, i - start, foldCode(page.ids[i]!))
    return hash >>> 0
  }

  #file(folded: string, n: number): void {
    const hash = hashOf(this.#chance, folded)
    let part = this.#table[hash % parts]
    if (part === undefined) {
      part = { slots: new Uint32Array(least), count: 0 }
      this.#table[hash % parts] = part
    }
    part.count += 1
    // Never more than three quarters full, so that there is always an empty slot to end a search.
    if (part.count * 4 > part.slots.length * 3) {
      const old = part.slots
      part.slots = new Uint32Array(old.length * 2)
      for (const slot of old) if (slot !== 0) settle(part.slots, this.#hashAt(slot - 1), slot)
    }
    settle(part.slots, hash, n + 1)
  }
}

function settle(slots: Uint32Array, hash: number, slot: number): void {
  let at = (hash >>> 8) % slots.length
  while (slots[at] !== 0) at = (at + 1) % slots.length
  slots[at] = slot
}

function newPage(): Page {
  return {
    count: 0,
    ids: new Uint8Array(least * 8),
    idBytes: 0,
    starts: new Uint16Array(least),
    kinds: new Uint32Array(least),
    marks: undefined,
  }
}

function addToPage(page: Page, id: string, kind: number): void {
  const at = page.count
  if (at === page.starts.length) {
    const length = at * 2
    page.starts = grown(page.starts, new Uint16Array(length))
    page.kinds = grown(page.kinds, new Uint32Array(length))
    if (page.marks !== undefined) page.marks = grown(page.marks, new Uint32Array(length))
  }
  const end = page.idBytes + id.length
  if (end > page.ids.length) page.ids = grown(page.ids, new Uint8Array(Math.max(end, page.ids.length * 2)))
  for (let i = 0; i < id.length; i += 1) page.ids[page.idBytes + i] = id.charCodeAt(i)
  page.starts[at] = page.idBytes
  page.kinds[at] = kind
  page.idBytes = end
  page.count = at + 1
  // Full: nothing is added to it any more.
  if (page.count === pageSize) page.ids = page.ids.slice(0, end)
}

function grown<T extends Uint8Array | Uint16Array | Uint32Array>(old: T, larger: T): T {
  larger.set(old)
  return larger
}

function endOf(page: Page, at: number): number {
  return at + 1 < page.count ? page.starts[at + 1]! : page.idBytes
}

function roundedUp(bytes: number): number {
  return 2 ** (32 - Math.clz32(Math.max(1, bytes) - 1))
}

/** As {@link foldId} does with an ASCII letter. */
function foldCode(code: number): number {
  return code >= 65 && code <= 90 ? code + 32 : code
}

/** Simple tabulation: keeps searches short with open addressing too (Pătraşcu and Thorup, The Power of Simple Tabulation Hashing). */
export function hashOf(chance: Uint32Array, folded: string): number {
  let hash = 0
  for (let i = 0; i < folded.length; i += 1) hash ^= wordOf(chance, i, folded.charCodeAt(i))
  return hash >>> 0
}

/** Undefined, which counts as 0, past the longest id that there can be. */
function wordOf(chance: Uint32Array, place: number, code: number): number {
  return chance[place * 128 + code]!
}
