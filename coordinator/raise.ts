/**
 * What a restored database must pass over. A backup knows nothing of what the coordinator gave away after it: job
 * uids, reservation ids, owner epochs and epochs of attempts that workers may still hold. None of them may name
 * something else now (L2, R1), so a restore raises every counter by more than a mesh gives away between two backups:
 *
 *   owner epoch      workers refuse one that is lower than what they obeyed; the coordinator that is replaced is refused
 *   job uid          work for a job that the backup does not know stays unknown, and is stopped
 *   reservation id   the same for compute nodes
 *   epoch floor      every attempt from now on is newer than any that was ever given: what reports for another is refused
 *
 * An attempt that the backup knows as running keeps its epoch, so that a machine that still runs it goes on (L6).
 */
import { type MachineRow, type MeshRow, storeFormat } from './rows.ts'

/** A start each: nobody starts a coordinator so often. */
export const ownerEpochJump = 1_000_000
/** Jobs and reservations: a hundred a second for a day. Keys of rows hold ten digits, which is room for a thousand restores. */
export const numberJump = 10_000_000
/** Attempts at one task: one a second for eleven days. */
export const epochJump = 1_000_000

/** The mesh's row for a restored database. `highestEpoch`: of all attempts that the backup knows. */
export function raisedMesh(row: MeshRow, highestEpoch: number): MeshRow {
  return {
    ...row,
    ownerEpoch: row.ownerEpoch + ownerEpochJump,
    nextJobUid: row.nextJobUid + numberJump,
    nextReservationId: row.nextReservationId + numberJump,
    epochFloor: Math.max(row.epochFloor ?? 0, highestEpoch) + epochJump,
  }
}

/** The founder's own machine starts anew with an empty journal: the number of its next start is 1 again. */
export function restartedMachine(row: MachineRow): MachineRow {
  return { ...row, incarnation: 0 }
}

/** Why rows of this format cannot be restored by this version; undefined when they can. An older one is migrated at the next start. */
export function formatTrouble(format: number): string | undefined {
  if (Number.isInteger(format) && format >= 1 && format <= storeFormat) return undefined
  return `its database has format ${format}, and this version of Batchmesh knows formats up to ${storeFormat}. Use a version that is at least as new as the one that made it`
}
