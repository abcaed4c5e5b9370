/**
 * Encoded specs of tasks, for grants and checks. Those of tasks added one by one are kept at hand from their submission
 * to their grant, up to a bound, and read from the disk beyond it. Those of arrays are made from their template.
 */
import { decode, encode } from '../protocols/codec.ts'
import { type Attempt, taskKey } from '../protocols/ids.ts'
import { type SpecRow, specKey } from './rows.ts'
import type { State } from './state.ts'
import type { Store } from './store.ts'
import { placeOf, specAt } from './task-book.ts'

/** Enough for some 40,000 ordinary tasks, so that a job of that size is never read back; of a longer one each claim reads its own. */
const maxBytes = 16 << 20
/** What an entry takes beside the spec: its key, its place in the map, the object around the bytes. */
const entryBytes = 300

type Ref = Pick<Attempt, 'jobUid' | 'task'>

export class SpecCache {
  readonly #store: Store
  readonly #state: State
  /** By row key. */
  readonly #specs = new Map<string, Uint8Array>()
  #bytes = 0

  constructor(store: Store, state: State) {
    this.#store = store
    this.#state = state
  }

  /** Remembers a spec row that is about to be written; other rows are passed over. */
  keep(key: string, value: unknown): void {
    if (!key.startsWith('spec/') || this.#bytes >= maxBytes) return
    const { spec } = value as SpecRow
    this.#specs.set(key, spec)
    this.#bytes += spec.length + entryBytes
  }

  /** The specs of these tasks by {@link taskKey}; what was at hand is forgotten, since a task is rarely granted twice. */
  take(refs: readonly Ref[]): Promise<Map<string, Uint8Array>> {
    return this.#find(refs, (key) => {
      const spec = this.#specs.get(key)
      if (spec === undefined) return undefined
      this.#specs.delete(key)
      this.#bytes -= spec.length + entryBytes
      return spec
    })
  }

  /** The same, and what is at hand stays there. A task whose job is gone is left out. */
  read(refs: readonly Ref[]): Promise<Map<string, Uint8Array>> {
    return this.#find(refs, (key) => this.#specs.get(key))
  }

  async #find(refs: readonly Ref[], atHand: (key: string) => Uint8Array | undefined): Promise<Map<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>()
    const missing: Ref[] = []
    for (const ref of refs) {
      const job = this.#state.jobs.get(ref.jobUid)
      const place = job === undefined ? undefined : placeOf(job, ref.task)
      const spec = place === undefined ? atHand(specKey(ref.jobUid, ref.task)) : encode(specAt(place))
      if (spec === undefined) missing.push(ref)
      else found.set(taskKey(ref.jobUid, ref.task), spec)
    }
    if (missing.length === 0) return found
    const rows = await this.#store.getMany(missing.map((ref) => specKey(ref.jobUid, ref.task)))
    rows.forEach((row, i) => {
      const { jobUid, task } = missing[i]!
      if (row !== undefined) found.set(taskKey(jobUid, task), (decode(row) as SpecRow).spec)
    })
    return found
  }
}
