/** The programs that a simulated machine runs: each goes by its plan until it ends or is ended. */

import type { Unit } from '../../node/worker/units.ts'
import { attemptKey } from '../../protocols/ids.ts'
import { exitCodeOf, planOf } from './plan.ts'
import type { Process, World } from './world.ts'

/** How long the first program of a gang waits for the others. */
const gangWaitMs = 20_000

/** Members of a gang's attempts that have started, as the programs of a parallel job find each other. */
export type Gangs = Map<string, Room>

interface Room {
  started: Set<number>
  ended: boolean
}

export interface SimUnit extends Unit {
  /** Of the session that granted it. */
  sessionNumber: number
  life: { ended: boolean }
}

export interface ProgramEvents {
  running(unit: SimUnit): void
  ended(unit: SimUnit, exitCode: number): void
}

export class Programs {
  readonly #world: World
  readonly #process: Process
  readonly #gangs: Gangs
  readonly #machineName: string
  readonly #on: ProgramEvents

  constructor(world: World, process: Process, gangs: Gangs, machineName: string, on: ProgramEvents) {
    this.#world = world
    this.#process = process
    this.#gangs = gangs
    this.#machineName = machineName
    this.#on = on
  }

  start(unit: SimUnit): void {
    this.next(unit, planOf(unit.work!.spec).fetchMs, () => this.#run(unit))
  }

  /** What the program does next, unless it was ended. */
  next(unit: SimUnit, ms: number, act: () => void): void {
    this.#process.later(ms, () => {
      if (!unit.life.ended) act()
    })
  }

  #run(unit: SimUnit): void {
    this.#on.running(unit)
    const { spec, gang } = unit.work!
    const plan = planOf(spec)
    const exitCode = exitCodeOf(plan, unit.attempt, this.#machineName)
    if (gang === undefined || exitCode === 127) return this.next(unit, exitCode === 127 ? 5 : plan.ms, () => this.#on.ended(unit, exitCode))
    const key = attemptKey({ ...unit.attempt, member: undefined })
    const room = this.#gangs.get(key) ?? { started: new Set(), ended: false }
    this.#gangs.set(key, room)
    room.started.add(gang.index)
    if (gang.index === 0) this.#lead(unit, room, { size: gang.members.length, exitCode, since: this.#world.now })
    else if (gang.index % 2 === 1) this.next(unit, plan.ms / 4, () => this.#on.ended(unit, exitCode))
    else this.#follow(unit, room)
  }

  /** The primary waits for all members, works, and ends. */
  #lead(unit: SimUnit, room: Room, work: { size: number; exitCode: number; since: number }): void {
    const isLate = this.#world.now - work.since > gangWaitMs
    if (room.started.size < work.size && !isLate) return this.next(unit, 100, () => this.#lead(unit, room, work))
    this.next(unit, planOf(unit.work!.spec).ms, () => {
      room.ended = true
      this.#on.ended(unit, isLate ? 1 : work.exitCode)
    })
  }

  /** Some members only prepare and end, others stay as long as the primary. */
  #follow(unit: SimUnit, room: Room): void {
    if (room.ended) return this.#on.ended(unit, 0)
    this.next(unit, 200, () => this.#follow(unit, room))
  }
}
