/** A coordinator's database made anew from the rows of a backup, with its counters raised (raise.ts). */
import { decode, encode } from '../protocols/codec.ts'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import { formatTrouble, raisedMesh, restartedMachine } from './raise.ts'
import { type MachineRow, type MeshRow, machineKey, meshKey, type StatusRow } from './rows.ts'
import type { Store } from './store.ts'

/** Every key of a store, `mesh` and what comes later. */
export const allRows = { gte: '', lt: '\uffff' }

export class RestoredStore {
  readonly #store: Store
  readonly #founder: PeerIdText
  #mesh: MeshRow | undefined
  #highestEpoch = 0

  /** `store` is empty. `founder`: the machine of the coordinator. */
  constructor(store: Store, founder: PeerIdText) {
    this.#store = store
    this.#founder = founder
  }

  /** Takes in rows as they stood in the backup. */
  async add(rows: readonly (readonly [key: string, value: Uint8Array])[]): Promise<void> {
    const batch = new Map<string, Uint8Array>()
    for (const [key, value] of rows) {
      if (key === meshKey) this.#mesh = decode(value) as MeshRow
      else if (key === machineKey(this.#founder)) batch.set(key, encode(restartedMachine(decode(value) as MachineRow)))
      else {
        if (key.startsWith('stat/')) this.#highestEpoch = Math.max(this.#highestEpoch, (decode(value) as StatusRow).epoch)
        batch.set(key, value)
      }
    }
    await this.#store.write(batch)
    failpoint('coordinator.restore.added')
  }

  /** Writes the mesh's own row, which makes the database one. Rejects when the backup's format is not known, or it had no such row. */
  async finish(): Promise<void> {
    if (this.#mesh === undefined) throw new MeshError('InternalError', 'The backup holds no state of a coordinator.')
    const trouble = formatTrouble(this.#mesh.format)
    if (trouble !== undefined) throw new MeshError('UnsupportedVersion', `The backup cannot be restored: ${trouble}.`)
    await this.#store.write(new Map([[meshKey, encode(raisedMesh(this.#mesh, this.#highestEpoch))]]))
    failpoint('coordinator.restore.finished')
  }
}
