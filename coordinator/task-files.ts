/** Files of tasks, for submitters: asked of the machine that ran the newest attempt, over the connection it holds open. */
import { MeshError } from '../protocols/errors.ts'
import { type FileChunk, filesProtocol, noFile } from '../protocols/files.ts'
import type { Attempt, PeerIdText } from '../protocols/ids.ts'
import { clientSession, type Session } from '../protocols/rpc.ts'
import type { Wire } from '../protocols/wire.ts'
import type { Job } from './state.ts'
import type { TaskRows } from './task-rows.ts'

type FilesSession = Session<(typeof filesProtocol)['server'], (typeof filesProtocol)['client']>

export class TaskFiles {
  readonly #wire: Wire
  readonly #sessions = new Map<PeerIdText, Promise<FilesSession>>()

  constructor(wire: Wire) {
    this.#wire = wire
  }

  async list(job: Job, rows: TaskRows, options: { recursive: boolean; prefix?: string }) {
    if (rows.status?.outcome?.noFiles === true) return { files: [], more: false }
    const { attempt, machine, name } = whereIs(job, rows)
    return this.#ask(machine, name, (session) => session.call('list', { attempt, ...options }))
  }

  async read(job: Job, rows: TaskRows, options: { name: string; offset: number; length: number; waitMs: number }): Promise<FileChunk> {
    if (rows.status?.outcome?.noFiles === true) return { ...noFile(options), final: true }
    const { attempt, machine, name } = whereIs(job, rows)
    return this.#ask(machine, name, (session) => session.call('read', { attempt, ...options }))
  }

  async #ask<T>(machine: PeerIdText, name: string, call: (session: FilesSession) => Promise<T>): Promise<T> {
    let session: FilesSession
    try {
      session = await this.#session(machine)
    } catch (error) {
      throw new MeshError('TaskFilesUnavailable', `The files are on ${name}, which cannot be reached now.`, { cause: error })
    }
    return call(session)
  }

  #session(machine: PeerIdText): Promise<FilesSession> {
    const known = this.#sessions.get(machine)
    if (known !== undefined) return known
    const opening = this.#open(machine)
    this.#sessions.set(machine, opening)
    const forget = () => this.#sessions.delete(machine)
    opening.then((session) => void session.closed.then(forget), forget)
    return opening
  }

  async #open(machine: PeerIdText): Promise<FilesSession> {
    const channel = await this.#wire.open(machine, filesProtocol)
    return clientSession(filesProtocol, channel, { calls: {}, notes: {} })
  }
}

function whereIs(job: Job, { spec, status }: TaskRows): { attempt: Attempt; machine: PeerIdText; name: string } {
  const lease = status?.lease?.[0]
  const where = lease === undefined ? status?.ranOn : { machine: lease.machine, machineName: lease.machine.slice(-8), epoch: status!.epoch }
  if (where === undefined) throw new MeshError('FileNotFound', `Task ${spec.id} has not run yet, so it has no files.`)
  return { attempt: { jobUid: job.uid, task: spec.id.toLowerCase(), epoch: where.epoch }, machine: where.machine, name: where.machineName }
}
