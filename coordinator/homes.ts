/** What the coordinator asks of the blob stores that are its jobs' homes: keep a job's inputs while the job is there, let go of everything when it is deleted. */
import { type BlobsProtocol, blobsProtocol, maxIds } from '../protocols/blobs.ts'
import type { BlobId, JobUid, PeerIdText } from '../protocols/ids.ts'
import type { TaskSpec } from '../protocols/model/task.ts'
import { clientSession, type Session } from '../protocols/rpc.ts'
import type { Wire } from '../protocols/wire.ts'

type BlobSession = Session<BlobsProtocol['server'], BlobsProtocol['client']>

/** The name under which a home keeps what belongs to a job (protocols/blobs.ts, S1). */
function pinName(jobUid: JobUid): string {
  return `job:${jobUid}`
}

/** Blobs that tasks, or templates of arrays, name as inputs. */
export function inputsOf(tasks: readonly Pick<TaskSpec, 'resourceFiles' | 'multiInstanceSettings' | 'thread'>[]): Set<BlobId> {
  const ids = new Set<BlobId>()
  for (const task of tasks) {
    for (const file of task.resourceFiles ?? []) if (file.blob !== undefined) ids.add(file.blob)
    for (const file of task.multiInstanceSettings?.commonResourceFiles ?? []) if (file.blob !== undefined) ids.add(file.blob)
    if (task.thread === undefined) continue
    ids.add(task.thread.module)
    if (task.thread.args !== undefined && 'blob' in task.thread.args) ids.add(task.thread.args.blob)
  }
  return ids
}

export class Homes {
  readonly #wire: Wire

  constructor(wire: Wire) {
    this.#wire = wire
  }

  /** Pins a job's inputs at its home; what is not there is left to whoever has it. */
  async keep(jobUid: JobUid, home: PeerIdText, ids: Iterable<BlobId>): Promise<void> {
    const all = [...ids]
    if (all.length === 0) return
    await this.#with(home, async (session) => {
      for (let at = 0; at < all.length; at += maxIds) await session.call('pin', { ids: all.slice(at, at + maxIds), name: pinName(jobUid) })
    })
  }

  /** Takes back every pin of a job. */
  async letGo(jobUid: JobUid, home: PeerIdText): Promise<void> {
    await this.#with(home, async (session) => {
      await session.call('unpinAll', { name: pinName(jobUid) })
    })
  }

  async #with(home: PeerIdText, use: (session: BlobSession) => Promise<void>): Promise<void> {
    const channel = await this.#wire.open(home, blobsProtocol)
    const session = clientSession(blobsProtocol, channel, { calls: {}, notes: {} })
    try {
      await use(session)
    } finally {
      session.close()
    }
  }
}
