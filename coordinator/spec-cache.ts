/** Specs between their submission and their grant: kept at hand up to a bound, read from the disk beyond it. */
import { decode } from '../protocols/codec.ts'
import type { SpecRow } from './rows.ts'
import type { Store } from './store.ts'

/** Enough for some 100,000 ordinary tasks; a longer queue is read back in pages of one claim. */
const maxBytes = 32 << 20

export class SpecCache {
  readonly #store: Store
  readonly #specs = new Map<string, Uint8Array>()
  #bytes = 0

  constructor(store: Store) {
    this.#store = store
  }

  /** Remembers a spec row that is about to be written; other rows are passed over. */
  keep(key: string, value: unknown): void {
    if (!key.startsWith('spec/') || this.#bytes >= maxBytes) return
    const { spec } = value as SpecRow
    this.#specs.set(key, spec)
    this.#bytes += spec.length
  }

  /** The specs of these keys; what was at hand is forgotten, since a task is rarely granted twice. */
  async take(keys: readonly string[]): Promise<Map<string, Uint8Array>> {
    const found = new Map<string, Uint8Array>()
    const missing: string[] = []
    for (const key of keys) {
      const spec = this.#specs.get(key)
      if (spec === undefined) missing.push(key)
      else {
        found.set(key, spec)
        this.#specs.delete(key)
        this.#bytes -= spec.length
      }
    }
    if (missing.length > 0) {
      const rows = await this.#store.getMany(missing)
      rows.forEach((row, i) => {
        if (row !== undefined) found.set(missing[i]!, (decode(row) as SpecRow).spec)
      })
    }
    return found
  }
}
