/**
 * Brings one larger file here, chunk by chunk from several machines at once. Each source begins at a place of its own,
 * so that machines that fetch the same file soon have different parts to give each other. A source that gives wrong
 * bytes or breaks off is dropped; its chunks go to the others.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import { free } from '../store/chunk-io.ts'
import type { PartialFile } from '../store/partial.ts'
import type { BlobSession } from './sessions.ts'

/** Chunks asked for ahead at one source: hides the way there and back, and holds 4 MiB. */
const windowChunks = 4
/** A chunk that takes longer is asked for elsewhere: 1 MiB at 300 kbit/s. */
const chunkTimeoutMs = 30_000
/** Pending chunks that are looked through one by one. */
const fewChunks = 8
/** Files from this on are worth a connection of their own: it costs two ways there and back, and a handshake. */
export const bulkChunks = 8
/** Pause before a busy source is asked again. */
const busyMs = 200

export interface Source {
  peer: PeerIdText
  session(): Promise<BlobSession>
  /** For the chunks of large files. */
  bulk(): Promise<BlobSession>
}

export interface Outcome {
  /** Sources that gave bytes that do not match. */
  liars: PeerIdText[]
  /** Chunks that came, by source. */
  chunksFrom: Map<PeerIdText, number>
  lastError: MeshError | undefined
}

/** Fetches what is missing as far as the sources go; check {@link PartialFile.missingCount} after it. */
export async function pullChunks(partial: PartialFile, sources: readonly Source[], signal: AbortSignal): Promise<Outcome> {
  const pending = new Set<number>()
  for (let index = 0; index < partial.chunks; index++) if (!partial.has(index)) pending.add(index)
  const outcome: Outcome = { liars: [], chunksFrom: new Map(), lastError: undefined }
  const dropped = new Set<PeerIdText>()
  let inFlight = 0
  let wake = Promise.withResolvers<void>()
  const changed = () => {
    wake.resolve()
    wake = Promise.withResolvers<void>()
  }

  const fetchOne = async (source: Source, index: number, lacks: Set<number>): Promise<void> => {
    pending.delete(index)
    inFlight += 1
    try {
      const session = await (partial.chunks < bulkChunks ? source.session() : source.bulk())
      const { data } = await session.call('chunk', { id: partial.id, index }, { signal, timeoutMs: chunkTimeoutMs })
      const isGood = await partial.write(index, data)
      free(data)
      if (isGood) {
        outcome.chunksFrom.set(source.peer, (outcome.chunksFrom.get(source.peer) ?? 0) + 1)
        return
      }
      dropped.add(source.peer)
      outcome.liars.push(source.peer)
      outcome.lastError = new MeshError('BlobCorrupt', `The machine ${source.peer} gave bytes that do not match the blob ${partial.id}.`)
    } catch (error) {
      const failure = toMeshError(error)
      if (failure.code === 'BlobNotFound' || failure.code === 'BlobCorrupt') lacks.add(index)
      else if (failure.code === 'ServerBusy') await sleep(busyMs, undefined, { signal }).catch(() => undefined)
      else dropped.add(source.peer)
      outcome.lastError = failure
    } finally {
      if (!partial.has(index)) pending.add(index)
      inFlight -= 1
      changed()
    }
  }

  const drain = async (source: Source, place: { cursor: number; lacks: Set<number> }): Promise<void> => {
    while (!signal.aborted && !dropped.has(source.peer)) {
      const index = nextFrom(pending, place.cursor, partial.chunks, place.lacks)
      if (index !== undefined) {
        place.cursor = index + 1
        await fetchOne(source, index, place.lacks)
      } else if (inFlight > 0) await wake.promise
      else return
    }
  }

  await Promise.all(
    sources.flatMap((source, at) => {
      const place = { cursor: Math.floor((at * partial.chunks) / sources.length), lacks: new Set<number>() }
      return Array.from({ length: windowChunks }, () => drain(source, place))
    }),
  )
  signal.throwIfAborted()
  return outcome
}

/** The first pending chunk at or after `start`, going round, that the source may have. */
function nextFrom(pending: ReadonlySet<number>, start: number, chunks: number, lacks: ReadonlySet<number>): number | undefined {
  // Near the end the few that are left are looked through; before it the next is close by.
  if (pending.size < fewChunks) {
    for (const index of pending) if (!lacks.has(index)) return index
    return undefined
  }
  for (let step = 0; step < chunks; step++) {
    const index = (start + step) % chunks
    if (pending.has(index) && !lacks.has(index)) return index
  }
  return undefined
}
