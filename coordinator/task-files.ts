/** Files of tasks, for submitters: asked of the machine that ran the newest attempt, over the connection it holds open. */
import { MeshError } from '../protocols/errors.ts'
import { type FileChunk, filesProtocol, noFile } from '../protocols/files.ts'
import { type Attempt, foldId, type PeerIdText } from '../protocols/ids.ts'
import { clientSession, type Session } from '../protocols/rpc.ts'
import type { Wire } from '../protocols/wire.ts'
import type { Job } from './state.ts'
import type { Members } from './subtasks.ts'
import type { TaskRows } from './task-rows.ts'

type FilesSession = Session<(typeof filesProtocol)['server'], (typeof filesProtocol)['client']>

/** `none`: it has no directory, for it never looked for one. */
export type FilesPlace = { attempt: Attempt; machine: PeerIdText; name: string } | 'none'

export class TaskFiles {
  readonly #wire: Wire
  readonly #sessions = new Map<PeerIdText, Promise<FilesSession>>()

  constructor(wire: Wire) {
    this.#wire = wire
  }

  async list(place: FilesPlace, options: { recursive: boolean; prefix?: string }) {
    if (place === 'none') return { files: [], more: false }
    return this.#ask(place, (session) => session.call('list', { attempt: place.attempt, ...options }))
  }

  async read(place: FilesPlace, options: { name: string; offset: number; length: number; waitMs: number }): Promise<FileChunk> {
    if (place === 'none') return { ...noFile(options), final: true }
    return this.#ask(place, (session) => session.call('read', { attempt: place.attempt, ...options }))
  }

  async #ask<T>({ machine, name }: { machine: PeerIdText; name: string }, call: (session: FilesSession) => Promise<T>): Promise<T> {
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

/** Where the files of a task lie, or those of a subtask. Throws FileNotFound when it has not run; InvalidPropertyValue when there is no such subtask. */
export function placeOfFiles(job: Job, { spec, status }: TaskRows, subtask: number, members: Members | undefined): FilesPlace {
  const task = foldId(spec.id)
  const instances = spec.multiInstanceSettings?.numberOfInstances ?? 1
  if (subtask >= instances) throw new MeshError('InvalidPropertyValue', noSubtask(spec.id, subtask, instances))
  if (subtask > 0) {
    const member = members?.members[subtask]
    if (members === undefined || member === undefined) throw notYet(spec.id)
    const { machine, machineName: name } = member
    return { attempt: { jobUid: job.uid, task, epoch: members.epoch, member: subtask }, machine, name }
  }
  if (status?.outcome?.noFiles === true) return 'none'
  const lease = status?.lease?.[0]
  const where = lease === undefined ? status?.ranOn : { machine: lease.machine, machineName: lease.machine.slice(-8), epoch: status!.epoch }
  if (where === undefined) throw notYet(spec.id)
  return { attempt: { jobUid: job.uid, task, epoch: where.epoch }, machine: where.machine, name: where.machineName }
}

function notYet(taskId: string): MeshError {
  return new MeshError('FileNotFound', `Task ${taskId} has not run yet, so it has no files.`)
}

function noSubtask(taskId: string, subtask: number, instances: number): string {
  if (instances === 1) return `Task ${taskId} has no subtask ${subtask}: it is no multi-instance task.`
  return `Task ${taskId} has no subtask ${subtask}: with ${instances} instances they are 1 to ${instances - 1}, and 0 is the primary.`
}
