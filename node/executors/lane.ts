/** A lane: one task at a time through a helper, which is started anew after a kill. */
import { existsSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import type { Ended, Owner, StartRequest } from '../ports.ts'
import { Helper } from './helper.ts'
import { marked, ownPidNamespace, sendSignal } from './proc.ts'
import { containedPrologue, markedPrologue, taskScript } from './script.ts'
import type { Spawner } from './spawner.ts'
import { type LanePlan, laneCommands } from './tiers.ts'

/** What a program has that was ended by SIGKILL. */
const killedExitCode = 128 + 9

export interface LaneSetup {
  tier: IsolationTier
  spawner: Spawner
  /** Whether `setpriv --pdeathsig` works here. */
  deathSignal: boolean
  plan: LanePlan
  /** Which of the tier's variants works here. */
  variant: number
  /** Written into the environment of tasks where only that shows to whom a process belongs. */
  marker: readonly [name: string, value: string]
}

/** Starts a helper in its isolation. Rejects with what the tools said. */
export async function startHelper(setup: LaneSetup): Promise<Helper> {
  const words = laneCommands(setup.tier, setup.plan)[setup.variant]!
  const contained = setup.tier !== 'process-group'
  if (setup.plan.keep.length > 0) mkdirSync(setup.plan.parking, { recursive: true, mode: 0o700 })
  const pipes = await setup.spawner.start(words, setup.deathSignal)
  const prologue = contained ? containedPrologue(ownPidNamespace()) : markedPrologue(setup.marker.join('='))
  try {
    return await Helper.open(pipes, prologue, contained)
  } catch (error) {
    const said = setup.spawner.errors
    throw new Error(`${error instanceof Error ? error.message : String(error)} ${said}`.trim(), { cause: error })
  }
}

/** The helper of one job, started when first needed, and again after it was killed. */
export class ShellLane {
  readonly #setup: LaneSetup
  #helper: Promise<Helper> | undefined
  #isClosed = false

  constructor(setup: LaneSetup) {
    this.#setup = setup
  }

  get owner(): Owner | undefined {
    return this.#setup.plan.owner
  }

  /** A live helper. */
  async ready(): Promise<Helper> {
    if (this.#isClosed) throw new Error('The lane is closed.')
    const current = await this.#helper
    if (current !== undefined && !current.isGone) return current
    const starting = startHelper(this.#setup)
    this.#helper = starting
    try {
      return await starting
    } catch (error) {
      this.#helper = undefined
      throw error
    }
  }

  async run(start: StartRequest, signal: AbortSignal, onStart?: (startTime: number) => void): Promise<Ended> {
    const helper = await this.ready()
    const startTime = Date.now()
    if (signal.aborted) return { exitCode: killedExitCode, startTime, endTime: startTime, killed: true }
    const contained = this.#setup.tier !== 'process-group'
    const id = helper.nextId()
    const script = taskScript(id, start, contained ? undefined : this.#setup.marker)
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
    if (report === 'gone') await this.#sweep()
    if (report === 'io') {
      throw new Error(`The output files of the task could not be made: ${start.stdoutPath}`)
    }
    // A lane that ended though nobody asked was ended by its task (`kill -9 -1` reaches the helper), not by the node.
    return { exitCode: report === 'gone' ? killedExitCode : report, startTime, endTime: Date.now(), killed }
  }

  /** Ends the helper and all that runs on it. */
  async close(): Promise<void> {
    this.#isClosed = true
    const helper = await this.#helper?.catch(() => undefined)
    if (helper === undefined) return
    helper.kill()
    await helper.gone
    await this.#sweep()
    if (existsSync(this.#setup.plan.parking)) rmSync(this.#setup.plan.parking, { recursive: true, force: true })
  }

  #killTask(helper: Helper): void {
    if (this.#setup.tier !== 'process-group') return helper.kill()
    // The helper stays: it sees the program end, sweeps, and reports.
    for (const pid of helper.taskProcesses()) sendSignal(pid, 'SIGKILL')
    for (const pid of marked(this.#setup.marker.join('='))) sendSignal(pid, 'SIGKILL')
  }

  /** Where no namespace ends with its helper: kills what carries the lane's marker until none is left. */
  async #sweep(): Promise<void> {
    if (this.#setup.tier !== 'process-group') return
    const text = this.#setup.marker.join('=')
    for (let pids = marked(text); pids.length > 0; pids = marked(text)) {
      for (const pid of pids) sendSignal(pid, 'SIGKILL')
      await sleep(1)
    }
  }
}

/** A place for a lane's start, below the node's private directory. */
export function parkingOf(runDir: string, index: number): string {
  return join(runDir, `parking-${index}`)
}
