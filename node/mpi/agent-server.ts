/**
 * The node's end of the launch agent (agent-script.ts): serves what the programs of a gang's primary ask for through named
 * pipes in a directory that belongs to them.
 *
 * S1: a task can put anything into that directory and change it at any time. So entries are opened through the directory
 * itself as it was when the node made it, never through a link, without waiting, and used only if they are pipes of the
 * task's own user. Who asks is not looked at: all that can write there is the task itself.
 */
import { closeSync, constants, type FSWatcher, fstatSync, openSync, watch } from 'node:fs'
import { readdir, rm } from 'node:fs/promises'
import { Socket } from 'node:net'
import { maxLaunches } from '../../protocols/launch.ts'
import type { Log, Owner } from '../ports.ts'
import { type AgentRequest, agentFailed, answerText, hereText, maxRequestBytes, readRequest } from './agent-script.ts'

/** What an agent is told. */
export type AgentAnswer = 'here' | { exitCode: number; said: string }

/** Entries of the directory that are looked at: agents that ask at once have two each. */
const maxEntries = 100_000

export interface AgentServerOptions {
  /** The directory that agents write in; it must be there. */
  dir: string
  /** Whom the pipes must belong to; absent: the node's own user. */
  owner: Owner | undefined
  /** Members of the gang: each has its launches, and so many agents may wait. */
  members: number
  /** Serves a request; `signal` is aborted when the agent is gone, or the server closes. What it rejects with, the agent says. */
  serve(request: AgentRequest, signal: AbortSignal): Promise<AgentAnswer>
  log: Log
}

export class AgentServer {
  readonly #options: AgentServerOptions
  readonly #fd: number
  readonly #watcher: FSWatcher
  readonly #maxAgents: number
  readonly #agents = new Map<string, AbortController>()
  #scanning = false
  #again = false
  #isClosed = false

  /** Throws when the directory is not there. */
  constructor(options: AgentServerOptions) {
    this.#options = options
    this.#maxAgents = Math.max(1, options.members) * maxLaunches
    this.#fd = openSync(options.dir, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
    this.#watcher = watch(options.dir, () => this.#look())
    this.#watcher.on('error', (error) => options.log.warn({ err: error }, 'launches of a gang are not seen any more'))
  }

  /** Ends all launches; agents that wait say that their node ended. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#watcher.close()
    for (const agent of this.#agents.values()) agent.abort()
    closeSync(this.#fd)
  }

  /** One look at a time: what changes meanwhile is looked at once more. */
  #look(): void {
    this.#again = true
    if (this.#scanning) return
    this.#scanning = true
    void (async () => {
      while (this.#again && !this.#isClosed) {
        this.#again = false
        await this.#scan()
      }
    })()
      .catch((error: unknown) => this.#options.log.warn({ err: error }, 'a launch of a gang could not be looked for'))
      .finally(() => {
        this.#scanning = false
      })
  }

  #path(name: string): string {
    return `/proc/self/fd/${this.#fd}/${name}`
  }

  async #scan(): Promise<void> {
    const names = await readdir(this.#path('.'))
    if (this.#isClosed) return
    if (names.length > maxEntries) {
      this.#options.log.warn({ dir: this.#options.dir }, 'a task keeps thousands of launches waiting; they are not served any more')
      return this.close()
    }
    for (const file of names) {
      const name = /^(\d{1,10})\.in$/.exec(file)?.[1]
      if (name === undefined || this.#agents.has(name) || this.#agents.size >= this.#maxAgents) continue
      const pipes = this.#open(name)
      if (pipes === undefined) continue
      const gone = new AbortController()
      this.#agents.set(name, gone)
      void this.#attend(pipes, gone).finally(() => void this.#left(name))
    }
  }

  async #left(name: string): Promise<void> {
    // An agent that was killed may have left them. As long as they are there it counts: a scan would take them for a new one's.
    if (!this.#isClosed) for (const end of ['in', 'out']) await rm(this.#path(`${name}.${end}`), { force: true }).catch(() => undefined)
    this.#agents.delete(name)
    if (!this.#isClosed) this.#look()
  }

  /** Both pipes of an agent; undefined when they are not there (yet), or no pipes of the task. */
  #open(name: string): { requests: number; answers: number } | undefined {
    const requests = this.#pipe(`${name}.in`, constants.O_RDONLY)
    if (requests === undefined) return undefined
    // For both ways, so that opening does not fail before the agent has opened its end.
    const answers = this.#pipe(`${name}.out`, constants.O_RDWR)
    if (answers === undefined) closeSync(requests)
    return answers === undefined ? undefined : { requests, answers }
  }

  #pipe(file: string, mode: number): number | undefined {
    let fd: number
    try {
      fd = openSync(this.#path(file), mode | constants.O_NONBLOCK | constants.O_NOFOLLOW)
    } catch {
      return undefined
    }
    const stat = fstatSync(fd)
    if (stat.isFIFO() && stat.uid === (this.#options.owner?.uid ?? process.getuid?.())) return fd
    closeSync(fd)
    return undefined
  }

  async #attend({ requests, answers }: { requests: number; answers: number }, gone: AbortController): Promise<void> {
    const incoming = new Socket({ fd: requests, readable: true, writable: false })
    const outgoing = new Socket({ fd: answers, readable: false, writable: true })
    outgoing.on('error', () => gone.abort())
    incoming.on('error', () => gone.abort())
    incoming.on('end', () => gone.abort())
    const text = await this.#answer(incoming, gone.signal)
    incoming.destroy()
    if (text === undefined) return void outgoing.destroy()
    await new Promise<void>((resolve) => {
      outgoing.once('close', resolve)
      // What an agent that was stopped does not read fits into the pipe: it holds nothing here. A task may have filled the pipe
      // before: then it waits, until the server closes at the latest.
      if (gone.signal.aborted) outgoing.destroy()
      gone.signal.addEventListener('abort', () => outgoing.destroy(), { once: true })
      outgoing.end(text, () => outgoing.destroy())
    })
  }

  /** What the agent is to be told; undefined when it is gone, and nobody listens. */
  async #answer(incoming: Socket, signal: AbortSignal): Promise<string | undefined> {
    const gone = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('The agent is gone.')), { once: true })
    })
    gone.catch(() => undefined)
    try {
      const request = await Promise.race([requestOn(incoming), gone])
      const answer = await Promise.race([this.#options.serve(request, signal), gone])
      return answer === 'here' ? hereText : answerText(answer.exitCode, answer.said)
    } catch (error) {
      if (signal.aborted) return undefined
      return answerText(agentFailed, `batchmesh: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
}

/** Reads a request. Rejects when it is none. */
function requestOn(incoming: Socket): Promise<AgentRequest> {
  return new Promise((resolve, reject) => {
    const pieces: Buffer[] = []
    let bytes = 0
    let isRead = false
    incoming.on('data', (piece: Buffer) => {
      // What follows a request is of no meaning, and must not pile up.
      if (isRead) return
      pieces.push(piece)
      bytes += piece.length
      // A task that writes byte by byte does not have them all looked at each time.
      if (bytes <= maxRequestBytes && !piece.includes(0)) return
      try {
        const request = readRequest(Buffer.concat(pieces))
        if (request === undefined) return
        isRead = true
        resolve(request)
      } catch (error) {
        isRead = true
        reject(error as Error)
      }
    })
  })
}
