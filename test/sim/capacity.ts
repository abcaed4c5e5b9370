/** R1, seen from the machine: what is reserved and what runs on the default pool's node. */

import type { Ledger } from '../../node/ledger.ts'
import type { Unit } from '../../node/worker/units.ts'
import type { MachineDescription } from '../../protocols/model/machine.ts'
import { Violation } from './world.ts'

/** Throws when compute nodes, and what runs beside them, are more than the machine lends. */
export function checkCapacity({ name, capacity }: MachineDescription, ledger: Ledger, units: Iterable<Unit>): void {
  let cores = 0
  let memoryMiB = 0
  for (const { size } of ledger.reservations()) {
    cores += size.cores
    memoryMiB += size.memoryMiB
  }
  for (const unit of units) {
    if (!ledger.isDefault(unit.nodeId) || (unit.phase !== 'fetching' && unit.phase !== 'running')) continue
    cores += unit.demand.cores ?? unit.slots
    memoryMiB += unit.demand.memoryMiB ?? 0
  }
  if (cores > capacity.cores || memoryMiB > capacity.memoryMiB)
    throw new Violation(`R1: ${name} lends ${capacity.cores} cores and ${capacity.memoryMiB} MiB; ${cores} and ${memoryMiB} are in use`)
}
