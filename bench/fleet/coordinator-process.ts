/** A coordinator in a process of its own, whose CPU can be asked for, and connections to it. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { enrol } from '../../node/enrol.ts'
import { createHost, type Host } from '../../node/host.ts'
import { Membership } from '../../node/membership.ts'
import type { Channel, Service } from '../../protocols/wire.ts'
import type { Profile } from './profile.ts'
import { dialSocket } from './socket-wire.ts'

export type WireName = 'libp2p' | 'socket'
/** `profile` begins a profile, `profiled` ends it; each is answered with the {@link Cost} so far. */
export type Question = 'cost' | 'profile' | 'profiled'

/** Where the coordinator is: a token, or the path of its socket. */
export interface Served {
  peer: string
  address: string
}

export interface Cost {
  /** User and system, all threads. */
  cpuMs: number
  /** The thread that JavaScript runs on. */
  threadMs: number
  written: { batches: number; rows: number; bytes: number }
  profile?: Profile
}

export class CoordinatorProcess {
  readonly #child: ChildProcess
  readonly #dir: string
  readonly #wire: WireName
  readonly #served: Served
  readonly #hosts: Host[] = []
  readonly #probers: ChildProcess[] = []

  private constructor(child: ChildProcess, dir: string, wire: WireName, served: Served) {
    this.#child = child
    this.#dir = dir
    this.#wire = wire
    this.#served = served
  }

  static async start(wire: WireName): Promise<CoordinatorProcess> {
    const dir = await mkdtemp(join(tmpdir(), 'batchmesh-bench-'))
    const child = fork(new URL('./serve.ts', import.meta.url), [dir, wire])
    return new CoordinatorProcess(child, dir, wire, await answerOf<Served>(child))
  }

  async ask(question: Question): Promise<Cost> {
    this.#child.send(question)
    return answerOf<Cost>(this.#child)
  }

  /** Opens a channel as a peer of its own, with a connection of its own. */
  async connect(name: string, service: Service): Promise<Channel> {
    if (this.#wire === 'socket')
      return dialSocket(this.#served.address, { peer: `peer-of-${name}`, roles: ['worker', 'submitter'] }, service)
    const membership = await Membership.open(await enrol(join(this.#dir, name), this.#served.address), {})
    const host = await createHost({ membership })
    this.#hosts.push(host)
    host.learn(this.#served.peer, membership.founderAddresses)
    return host.open(this.#served.peer, service)
  }

  /** Machines in a process of their own that only beat: answers with how long each heartbeat's answer took since the last call, in ms. */
  async probe(): Promise<() => Promise<number[]>> {
    const prober = fork(new URL('./prober.ts', import.meta.url), [this.#served.address])
    this.#probers.push(prober)
    await answerOf(prober)
    return () => {
      prober.send('beats')
      return answerOf<number[]>(prober)
    }
  }

  async stop(): Promise<void> {
    for (const prober of this.#probers) prober.kill('SIGKILL')
    for (const host of this.#hosts) await host.stop()
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
    await rm(this.#dir, { recursive: true, force: true })
  }
}

function answerOf<T>(child: ChildProcess): Promise<T> {
  return new Promise((resolve, reject) => {
    const ended = () => reject(new Error('the process has ended; its error is above'))
    child.once('exit', ended)
    child.once('message', (answer) => {
      child.off('exit', ended)
      resolve(answer as T)
    })
  })
}

/** What came between two answers. */
export function costBetween(before: Cost, after: Cost): Cost {
  return {
    cpuMs: after.cpuMs - before.cpuMs,
    threadMs: after.threadMs - before.threadMs,
    written: {
      batches: after.written.batches - before.written.batches,
      rows: after.written.rows - before.written.rows,
      bytes: after.written.bytes - before.written.bytes,
    },
    profile: after.profile,
  }
}
