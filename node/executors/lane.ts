/** A lane: one task at a time through a helper, which is started anew after a kill. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import type { Ended, MemoryLimit, Owner, StartRequest } from '../ports.ts'
import type { Cgroup, Hits } from './cgroup.ts'
import { Helper } from './helper.ts'
import { overrunOf } from './overrun.ts'
import { ownPidNamespace, processesWith, sendSignal } from './proc.ts'
import { containedPrologue, explainScript, isSimple, notExecutable, notFound, taskScript, tracedPrologue } from './script.ts'
import type { Spawner } from './spawner.ts'
import { makeTemporary } from './temporary.ts'
import { type LanePlan, laneCommands, markerOf, traceOf } from './tiers.ts'

/** What a program has that was ended by SIGKILL. */
const killedExitCode = 128 + 9
const mib = 1 << 20
/** What the helper needs in the group beside its task. */
const helperMiB = 8

export interface LaneSetup {
  tier: IsolationTier
  /** The living spawner. */
  spawner: () => Spawner
  plan: LanePlan
  /** Which of the tier's variants works here. */
  variant: number
  /** A control group for the lane, where the machine has them. */
  group?: (() => Cgroup) | undefined
  /** Most processes and threads of a task, if there is a group. */
  processes?: number | undefined
}

/** Starts a helper in its isolation. Rejects with what the tools said. */
export async function startHelper(setup: LaneSetup): Promise<Helper> {
  const { tier, plan } = setup
  const contained = tier !== 'process-group'
  const words = laneCommands(tier, plan)[setup.variant]!
  if (contained) makeTemporary(plan.temporary)
  let spawner = setup.spawner()
  const pipes = await spawner.start(words, contained).catch((error: unknown) => {
    // It was killed a moment ago, which shows only now: once more with the next one.
    if (!spawner.isEnded) throw error
    spawner = setup.spawner()
    return spawner.start(words, contained)
  })
  const prologue = contained ? containedPrologue(ownPidNamespace()) : tracedPrologue(traceOf(plan, 'lane'))
  try {
    return await Helper.open(pipes, prologue, contained)
  } catch (error) {
    throw new Error(`${error instanceof Error ? error.message : String(error)} ${spawner.errors}`.trim(), { cause: error })
  }
}

/** The helper of one job, started when first needed, and again after it was killed. */
export class ShellLane {
  readonly #setup: LaneSetup
  #helper: Promise<Helper> | undefined
  #group: Cgroup | undefined
  #hits: Hits = { oomKills: 0, refusedForks: 0 }
  #isClosed = false

  constructor(setup: LaneSetup) {
    this.#setup = setup
  }

  get plan(): LanePlan {
    return this.#setup.plan
  }

  get owner(): Owner | undefined {
    return this.#setup.plan.owner
  }

  /** A live helper. */
  async ready(): Promise<Helper> {
    const current = await this.#helper
    if (this.#isClosed) throw new Error('The lane is closed.')
    if (current !== undefined && !current.isGone) return current
    const starting = this.#start()
    this.#helper = starting
    try {
      return await starting
    } catch (error) {
      this.#helper = undefined
      throw error
    }
  }

  async #start(): Promise<Helper> {
    const helper = await startHelper(this.#setup)
    try {
      this.#group ??= this.#setup.group?.()
      this.#group?.hold(helper.pid)
      if (this.#group !== undefined) this.#hits = this.#group.hits()
      return helper
    } catch (error) {
      helper.kill()
      await helper.gone
      throw error
    }
  }

  limitMemory({ limitMiB }: MemoryLimit): void {
    // A machine that lends no memory of its own account has none to count.
    if (limitMiB > 0) this.#group?.limitMemory(Math.ceil(limitMiB + helperMiB) * mib)
  }

  /** What limit the task hit. */
  #overrun(exitCode: number, { memory }: StartRequest): Pick<Ended, 'failureInfo'> {
    if (this.#group === undefined) return {}
    const before = this.#hits
    this.#hits = this.#group.hits()
    const failureInfo = overrunOf(before, this.#hits, { exitCode, memory, processes: this.#setup.processes })
    return failureInfo === undefined ? {} : { failureInfo }
  }

  async run(start: StartRequest, signal: AbortSignal, onStart?: (startTime: number) => void): Promise<Ended> {
    const helper = await this.ready()
    const startTime = Date.now()
    if (signal.aborted) return { exitCode: killedExitCode, startTime, endTime: startTime, killed: true }
    if (start.memory !== undefined) this.limitMemory(start.memory)
    const id = helper.nextId()
    const simple = helper.isDash && isSimple(start)
    const script = taskScript(id, start, { simple, marker: markerOf(this.#setup.tier, this.#setup.plan) })
    let isEnded = false
    let killed = false
    const onAbort = () => {
      killed = true
      const { termMs } = (signal.reason ?? {}) as { termMs?: unknown }
      void (async () => {
        if (typeof termMs === 'number' && termMs > 0) {
          for (const pid of helper.taskProcesses()) sendSignal(pid, 'SIGTERM')
          await Promise.race([ended, sleep(termMs, undefined, { ref: false })])
        }
        if (!isEnded) this.#killTask(helper)
      })()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    const ended = helper.run(id, script).finally(() => {
      isEnded = true
      signal.removeEventListener('abort', onAbort)
    })
    onStart?.(startTime)
    const report = await ended
    if (simple && (report === notExecutable || report === notFound)) {
      const explained = helper.nextId()
      await helper.run(explained, explainScript(explained, start, report))
    }
    if (typeof report === 'number') return { exitCode: report, startTime, endTime: Date.now(), killed, ...this.#overrun(report, start) }
    if (report === 'io') throw new Error(`The output files of the task could not be made: ${start.stdoutPath}`)
    await this.#sweep()
    if (report === 'gone' && !killed) throw new Error('The lane ended while its task ran, and neither the task nor the node ended it.')
    return { exitCode: killedExitCode, startTime, endTime: Date.now(), killed, ...this.#overrun(killedExitCode, start) }
  }

  /** Ends the helper and all that runs on it. */
  async close(): Promise<void> {
    this.#isClosed = true
    const helper = await this.#helper?.catch(() => undefined)
    if (helper !== undefined) {
      helper.kill()
      await helper.gone
      await this.#sweep()
    }
    await this.#group?.killAll()
    await this.#group?.remove()
  }

  #killTask(helper: Helper): void {
    if (this.#setup.tier !== 'process-group') return helper.kill()
    // The helper stays: it sees the program end, sweeps, and reports. Stopped first, so that no fork outruns the kill.
    const found = new Set<number>()
    for (let isNew = true; isNew; ) {
      isNew = false
      for (const pid of helper.taskProcesses()) {
        if (found.has(pid)) continue
        found.add(pid)
        isNew = true
        sendSignal(pid, 'SIGSTOP')
      }
    }
    for (const pid of found) sendSignal(pid, 'SIGKILL')
  }

  /** Where no namespace ends with its helper: kills what has the lane's trace until nothing is left. */
  async #sweep(): Promise<void> {
    if (this.#setup.tier !== 'process-group') return
    const { file, text } = traceOf(this.#setup.plan, 'lane')
    for (let pids = processesWith(file, text); pids.length > 0; pids = processesWith(file, text)) {
      for (const pid of pids) sendSignal(pid, 'SIGKILL')
      await sleep(1)
    }
  }
}
