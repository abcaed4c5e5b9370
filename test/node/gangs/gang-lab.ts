/** A gang on real lanes in this process: machines that are rooms of members on wires in memory, and members that the runner takes through their life. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Gangs } from '../../../node/gangs/gangs.ts'
import type { Gang } from '../../../node/gangs/membership.ts'
import type { TaskPaths } from '../../../node/ports.ts'
import { runTask } from '../../../node/runner.ts'
import type { Attempt } from '../../../protocols/ids.ts'
import { type Outcome, type TaskSpecInput, taskSpecSchema } from '../../../protocols/model/task.ts'
import type { Wire } from '../../../protocols/wire.ts'
import { MemoryNet } from '../../support/memory-wire.ts'
import { brief } from '../../support/worker/fake-coordinator.ts'
import { FakeStaging, FakeThreads, silentLog } from '../../support/worker/fake-parts.ts'
import { TaskLab } from '../task-lab.ts'

/** The room of one machine. */
export interface Machine {
  peer: string
  gangs: Gangs
  staging: FakeStaging
  /** What others learn when they look whether its process is there. */
  seen: Awaited<ReturnType<Wire['probe']>>
}

/** One member of a gang that runs. */
export interface Running {
  attempt: Attempt
  machine: Machine
  /** Of a function: its call, which goes on until it is stopped. */
  threads: FakeThreads
  outcome: Promise<Outcome | undefined>
  stop: AbortController
  said: string[]
  /** A file of its task directory as it is now; `none` if it is not there. */
  read(name: string): string
  until(name: string, text: string): Promise<void>
}

const node = { poolId: 'p', nodeId: 'n', isDedicated: true, rootDir: '/root-dir', accountName: 'a', accountUrl: 'u', user: 'batch' }

export class GangLab {
  readonly net = new MemoryNet()
  readonly tasks: TaskLab
  readonly machines: Machine[] = []
  readonly #running: Running[] = []
  #attempts = 0

  private constructor(tasks: TaskLab) {
    this.tasks = tasks
  }

  static async open(machines: number): Promise<GangLab> {
    const lab = new GangLab(await TaskLab.open())
    for (let n = 0; n < machines; n += 1) lab.machine()
    return lab
  }

  machine(now?: () => number): Machine {
    const peer = `peer-of-machine-${this.machines.length}`
    const wire = {
      ...this.net.wire(peer, ['worker']),
      probe: async (of: string) => this.machines.find((one) => one.peer === of)?.seen ?? 'unknown',
    }
    const gangs = new Gangs({ wire, log: silentLog, ...(now && { now }) })
    const machine: Machine = { peer, gangs, staging: new FakeStaging(), seen: 'unknown' }
    this.machines.push(machine)
    return machine
  }

  /** A gang with a member on each of these machines, which may occur more than once. */
  gang(on: readonly Machine[], addresses: readonly string[] = []): { index: number; members: Gang['members'] } {
    const members = on.map(({ peer }, index) => ({
      peer,
      nodeId: `n${index}`,
      name: `m${index}`,
      address: addresses[index] ?? '127.0.0.1',
      cores: 2,
    }))
    return { index: 0, members }
  }

  attempt(): Attempt {
    this.#attempts += 1
    return { jobUid: 1, task: `t${this.#attempts}`, epoch: 1 }
  }

  /** Starts the members of a gang, or those of these indexes. */
  start(
    on: readonly Machine[],
    spec: Partial<TaskSpecInput>,
    how: { addresses?: readonly string[]; only?: readonly number[]; attempt?: Attempt } = {},
  ): Running[] {
    const gang = this.gang(on, how.addresses)
    const attempt = how.attempt ?? this.attempt()
    return on.flatMap((machine, index) =>
      how.only?.includes(index) === false
        ? []
        : [this.#member(machine, index === 0 ? attempt : { ...attempt, member: index }, { ...gang, index }, spec)],
    )
  }

  #member(machine: Machine, attempt: Attempt, gang: Gang, spec: Partial<TaskSpecInput>): Running {
    const stop = new AbortController()
    const said: string[] = []
    const threads = new FakeThreads()
    let paths: TaskPaths | undefined
    const multiInstanceSettings = { numberOfInstances: gang.members.length, ...spec.multiInstanceSettings }
    const outcome = runTask(
      {
        ...{ executor: this.tasks.executor, threads, staging: machine.staging, directories: this.tasks.directories },
        ...{ gangs: machine.gangs, now: Date.now, log: silentLog },
      },
      {
        ...{ attempt, gang, job: brief, node, memoryMiB: 1000 },
        spec: taskSpecSchema.parse({
          id: attempt.task,
          ...(spec.thread === undefined ? { commandLine: 'true' } : {}),
          ...spec,
          multiInstanceSettings,
        }),
      },
      {
        placed: (at) => {
          paths = at
        },
        started: () => said.push('started'),
        vacated: () => said.push('vacated'),
        uploading: () => said.push('uploading'),
      },
      stop.signal,
    )
    const read = (name: string) => {
      const file = join(paths?.taskDir ?? '/nowhere', name)
      return existsSync(file) ? readFileSync(file, 'utf8') : 'none'
    }
    const until = async (name: string, text: string) => {
      while (!read(name).includes(text)) await new Promise((resolve) => setTimeout(resolve, 5))
    }
    const running: Running = { attempt, machine, threads, outcome, stop, said, read, until }
    this.#running.push(running)
    return running
  }

  /** As the coordinator does when the primary has reported. */
  async end(running: readonly Running[]): Promise<void> {
    for (const { stop } of running) stop.abort(new Error('the attempt has ended'))
    await Promise.all(running.map(({ outcome }) => outcome))
  }

  async close(): Promise<void> {
    await this.end(this.#running)
    for (const { gangs } of this.machines) gangs.close()
    await this.tasks.close()
  }
}

/** A shell script as a command line. */
export function sh(script: string): string {
  return `/bin/sh -c '${script.replaceAll("'", `'\\''`)}'`
}
