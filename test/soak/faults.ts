/** What happens to the mesh while a round's jobs run. Each fault is over when its promise resolves. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Dice } from '../fuzz/dice.ts'
import type { Machine, Machines } from './nodes.ts'

export interface Fault {
  name: string
  /** Which machine it happened to. */
  machine: string
  run: () => Promise<void>
}

/**
 * The workers of the second half live through the run but for stops and cuts, so that what they hold can grow; those of the
 * first half also die and leave.
 */
function split(machines: Machines): { mortal: readonly Machine[]; steady: readonly Machine[] } {
  const half = Math.ceil(machines.workers.length / 2)
  return { mortal: machines.workers.slice(0, half), steady: machines.workers.slice(half) }
}

/** The coordinator dies and comes back. */
export function coordinatorKilled(machines: Machines, dice: Dice): Fault {
  const awayMs = dice.below(8000)
  return {
    name: `killed for ${Math.round(awayMs / 1000)} s`,
    machine: machines.founder.name,
    run: async () => {
      await pause(dice.below(10_000))
      await machines.kill(machines.founder)
      await pause(awayMs)
      await machines.start(machines.founder)
    },
  }
}

/** One fault by chance; undefined: a quiet round. */
export function nextFault(machines: Machines, dice: Dice): Fault | undefined {
  const { mortal, steady } = split(machines)
  const any = dice.pick([...mortal, ...steady])
  const one = dice.pick(mortal)
  const { network } = machines
  const seconds = 3 + dice.below(30)
  const kinds: (Fault | undefined)[] = [
    undefined,
    { name: `killed for ${seconds} s`, machine: one.name, run: () => replaced(machines, one, (m) => machines.kill(m), seconds) },
    { name: `drained for ${seconds} s`, machine: one.name, run: () => replaced(machines, one, (m) => machines.drain(m), seconds) },
    { name: `stopped for ${seconds} s`, machine: any.name, run: () => stopped(any, seconds) },
    ...(network === undefined
      ? []
      : [
          { name: `cut for ${seconds} s`, machine: any.name, run: () => cut(machines, any, seconds) },
          { name: `cut for ${2 * seconds} s`, machine: any.name, run: () => cut(machines, any, 2 * seconds) },
          { name: `cut for ${seconds} s`, machine: machines.founder.name, run: () => cut(machines, machines.founder, seconds) },
        ]),
  ]
  return dice.pick(kinds)
}

async function replaced(machines: Machines, machine: Machine, end: (machine: Machine) => Promise<void>, seconds: number): Promise<void> {
  await pause(2000)
  await end(machine)
  await pause(seconds * 1000)
  await machines.start(machine)
}

async function stopped(machine: Machine, seconds: number): Promise<void> {
  await pause(2000)
  machine.stopped = true
  await machine.process!.kill('SIGSTOP')
  try {
    await pause(seconds * 1000)
  } finally {
    await machine.process!.kill('SIGCONT')
  }
  // until a probe line has told of the stop
  setTimeout(() => {
    machine.stopped = false
  }, 40_000).unref()
}

async function cut(machines: Machines, machine: Machine, seconds: number): Promise<void> {
  await pause(2000)
  await machines.network!.cut(machine.name)
  try {
    await pause(seconds * 1000)
  } finally {
    await machines.network!.heal(machine.name)
  }
}
