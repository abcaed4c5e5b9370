/**
 * Which message goes to which receive (MPI 4.1, 3.5): messages of one member meet the receives that fit them in the order
 * sent, receives meet messages in the order posted, and a receive from any member takes the message that came first. What
 * waits on either side is kept here; nothing is done with it.
 */

/** As the sender or the tag of a receive: any of them (MPI 4.1, 3.2.4: MPI_ANY_SOURCE, MPI_ANY_TAG). */
export const any = -1

/** A receive, or with {@link any} nowhere in it a message: it has a place among its like from when it was first put in line. */
export interface Matched {
  from: number
  tag: number
  /** Set by the line. */
  order?: number
}

export function fits(wanted: Matched, offered: Matched): boolean {
  return (wanted.from === offered.from || wanted.from === any) && (wanted.tag === offered.tag || wanted.tag === any)
}

/** Receives without a message, or messages without a receive, in their order, which those that come back keep. */
export class Line<T extends Matched> {
  readonly items: T[] = []
  #next = 0

  /** Gives it its place, if it has none: also what is matched at once may come back. */
  number(item: T): void {
    item.order ??= this.#next++
  }

  put(item: T): void {
    this.number(item)
    let at = this.items.length
    while (at > 0 && this.items[at - 1]!.order! > item.order!) at -= 1
    if (at === this.items.length) this.items.push(item)
    else this.items.splice(at, 0, item)
  }

  /** The first receive that fits this message, taken out. */
  takeFor(offered: Matched): T | undefined {
    return this.#take(this.items.findIndex((wanted) => fits(wanted, offered)))
  }

  /** The first message that fits this receive. */
  findFor(wanted: Matched): T | undefined {
    return this.items.find((offered) => fits(wanted, offered))
  }

  remove(item: T): boolean {
    return this.#take(this.items.indexOf(item)) !== undefined
  }

  /** Takes out all that the test says. */
  removeAll(test: (item: T) => boolean): T[] {
    const taken = this.items.filter(test)
    for (const item of taken) this.remove(item)
    return taken
  }

  #take(at: number): T | undefined {
    if (at <= 0) return at < 0 ? undefined : this.items.shift()
    return this.items.splice(at, 1)[0]
  }
}
