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
  started: Map<number, SimUnit>
  /** Members that have done their part. */
  done: Set<number>
  ended: boolean
  /** They notice when one of them is gone, as members that talk to each other do; others wait until they are ended. */
  watches: boolean
}

export interface SimUnit extends Unit {
  /** Of the session that granted it. */
  sessionNumber: number
  /** `over`: the program has ended by itself. */
  life: { ended: boolean; over?: boolean }
}

export interface ProgramEvents {
  running(unit: SimUnit): void
  ended(unit: SimUnit, how: number | 'member lost'): void
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
    this.#step(unit, planOf(unit.work!.spec).fetchMs, () => this.#run(unit))
  }

  /** What is done next with the unit, unless it was ended. */
  next(unit: SimUnit, ms: number, act: () => void): void {
    this.#process.later(ms, () => {
      if (!unit.life.ended) act()
    })
  }

  /** What its program does next. */
  #step(unit: SimUnit, ms: number, act: () => void): void {
    this.next(unit, ms, () => {
      if (unit.life.over !== true) act()
    })
  }

  #end(unit: SimUnit, how: number | 'member lost'): void {
    unit.life.over = true
    this.#on.ended(unit, how)
  }

  #run(unit: SimUnit): void {
    this.#on.running(unit)
    const { spec, gang } = unit.work!
    const plan = planOf(spec)
    const exitCode = exitCodeOf(plan, unit.attempt, this.#machineName)
    if (gang === undefined || exitCode === 127) return this.#step(unit, exitCode === 127 ? 5 : plan.ms, () => this.#end(unit, exitCode))
    const room = this.#enter(unit, gang.index)
    if (gang.index === 0) this.#lead(unit, room, { size: gang.members.length, exitCode, since: this.#world.now })
    else if (gang.index % 2 === 1)
      this.#step(unit, plan.ms / 4, () => {
        room.done.add(gang.index)
        this.#end(unit, exitCode)
      })
    else this.#follow(unit, room)
    if (room.watches) this.#watch(unit, room)
  }

  #enter(unit: SimUnit, index: number): Room {
    const key = attemptKey({ ...unit.attempt, member: undefined })
    const room = this.#gangs.get(key) ?? { started: new Map(), done: new Set(), ended: false, watches: this.#world.chance(0.5) }
    this.#gangs.set(key, room)
    room.started.set(index, unit)
    return room
  }

  /** The primary waits for all members, works, and ends. */
  #lead(unit: SimUnit, room: Room, work: { size: number; exitCode: number; since: number }): void {
    const isLate = this.#world.now - work.since > gangWaitMs
    if (room.started.size < work.size && !isLate) return this.#step(unit, 100, () => this.#lead(unit, room, work))
    this.#step(unit, planOf(unit.work!.spec).ms, () => {
      room.ended = true
      this.#end(unit, isLate ? 1 : work.exitCode)
    })
  }

  /** Some members only prepare and end, others stay as long as the primary. */
  #follow(unit: SimUnit, room: Room): void {
    if (room.ended) return this.#end(unit, 0)
    this.#step(unit, 200, () => this.#follow(unit, room))
  }

  /** A member that is gone is noticed after some seconds of silence, by whoever is first. */
  #watch(unit: SimUnit, room: Room): void {
    this.#step(unit, this.#world.between(2000, 8000), () => {
      const isLost = [...room.started].some(([index, { life }]) => life.ended && !room.done.has(index))
      if (isLost && !room.ended) this.#end(unit, 'member lost')
      else this.#watch(unit, room)
    })
  }
}
