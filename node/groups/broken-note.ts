/** The word that collective operations of a group have failed, as it goes from member to member. */
import { groupErrorCode } from './group-error.ts'

/** What a member tells the others when an operation failed. */
export interface BrokenNote {
  sequence: number
  code: string
  rank: number
  message: string
}

export function writeBroken(note: BrokenNote): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(note))
}

/** Undefined for what is none. */
export function readBroken(bytes: Uint8Array) {
  try {
    const note = JSON.parse(new TextDecoder().decode(bytes)) as Partial<BrokenNote>
    const { sequence, rank, message } = note
    if (!Number.isInteger(sequence) || !Number.isInteger(rank) || typeof message !== 'string') return undefined
    return { sequence: sequence!, rank: rank!, message, code: groupErrorCode(note.code) }
  } catch {
    return undefined
  }
}
