/**
 * One seed: a mesh with a mixed workload. First faults happen and every promise is watched; then they stop, and every
 * job must reach its end within a bounded time.
 */

import { explainTask } from '../../coordinator/explain.ts'
import { type JobRow, specPrefix, taskOfKey } from '../../coordinator/rows.ts'
import { liveEntries } from '../../coordinator/task-book.ts'
import { decode } from '../../protocols/codec.ts'
import { readStatus } from '../support/rows.ts'
import { SimCoordinator } from './coordinator.ts'
import { coordinatorFailpoints, type SimFailpoint, workerFailpoints } from './failpoints.ts'
import { GangOracle } from './gang-oracle.ts'
import { Network } from './network.ts'
import { Oracle } from './oracle.ts'
import type { Planted } from './planted.ts'
import type { Gangs } from './programs.ts'
import { Submitter } from './submitter.ts'
import { SimWorker } from './worker.ts'
import { peerOf } from './worker-parts.ts'
import { makeWorkload } from './workload.ts'
import { type FaultCounts, type Process, Violation, World } from './world.ts'

/** How long faults happen. */
const hostileMs = 60_000
/** Then every job must end in this: the longest lease window, and the work itself. */
const calmMs = 30 * 60_000

export interface Result {
  seed: number
  faults: FaultCounts
  /** What went wrong. */
  failure?: string
  /** Simulated time until every job had ended. */
  tookMs: number
}

export interface Options {
  planted?: Planted
  say?: (line: string) => void
}

export function simulate(seed: number, { planted = {}, say }: Options = {}): Result {
  const world = new World(seed, say)
  const start = world.now
  try {
    runWorld(world, planted)
    return { seed, faults: world.faults, tookMs: world.now - start }
  } catch (error) {
    const failure = error instanceof Violation ? error.message : String(error instanceof Error ? error.stack : error)
    return { seed, faults: world.faults, failure: `${failure} (at ${world.now - start} ms)`, tookMs: world.now - start }
  }
}

function runWorld(world: World, planted: Planted): void {
  const network = new Network(world)
  const { machines, scripts } = makeWorkload(world)
  const oracle = new Oracle(new GangOracle(world, new Map(machines.map((machine) => [peerOf(machine.name), machine]))))
  const coordinator = new SimCoordinator(world, network, oracle, planted)
  const gangs: Gangs = new Map()
  const workers = machines.map((machine) => {
    const worker = new SimWorker(
      { world, coordinator, oracle: oracle.gangs, gangs, planted },
      machine.name,
      machine,
      world.between(-20_000, 20_000),
    )
    coordinator.knows(worker)
    return worker
  })
  coordinator.start()
  for (const worker of workers) worker.start()
  const submitters = scripts.map((script) => new Submitter(world, coordinator, oracle, script))
  unleash(world, network, coordinator, workers, planted.crashesOnly === true ? [crashCoordinator] : allFaults)
  world.run(world.now + hostileMs)
  oracle.checkDisk(coordinator.disk)
  world.hostile = false
  for (const { failpoints } of [coordinator, ...workers]) failpoints.disarm()
  network.heal()
  if (!coordinator.process.isUp) coordinator.start()
  for (const worker of workers) if (!worker.process.isUp) worker.start()
  let checkedAt = 0
  const done = () => {
    if (world.now - checkedAt < 1000) return false
    checkedAt = world.now
    return submitters.every((submitter) => submitter.isDone) && openJobs(coordinator).length === 0
  }
  const deadline = world.now + calmMs
  world.run(deadline, done)
  oracle.checkDisk(coordinator.disk)
  const open = openJobs(coordinator)
  if (open.length > 0) throw new Violation(`liveness: ${open.length} jobs did not end; ${describe(coordinator, open[0]!, world.now)}`)
  if (!submitters.every((submitter) => submitter.isDone)) throw new Violation('liveness: a submitter was never answered')
  // What is deleted goes in the background.
  world.run(world.now + 5000)
  oracle.checkLeftovers(coordinator.disk)
}

function openJobs(coordinator: SimCoordinator): JobRow[] {
  const open: JobRow[] = []
  for (const [key, value] of coordinator.disk) {
    if (!key.startsWith('job/')) continue
    const row = decode(value) as JobRow
    if (row.state === 'active') open.push(row)
  }
  return open
}

function describe(coordinator: SimCoordinator, row: JobRow, now: number): string {
  const job = coordinator.state.jobs.get(row.uid)
  for (const task of job === undefined ? [] : liveEntries(job)) {
    const why = explainTask(coordinator.state, job!, task.id, now)
    const lease = task.lease?.members.map((member) => member.machine.peer).join()
    return `of ${row.spec.id}: ${why?.summary} ${why?.details.join(' ')} (epoch ${task.epoch}, lease ${lease ?? 'none'})`
  }
  // One that has not had its turn is in the job's roll only.
  for (const key of coordinator.disk.keys()) {
    const why =
      job !== undefined && key.startsWith(specPrefix(row.uid)) ? explainTask(coordinator.state, job, taskOfKey(key), now) : undefined
    if (why !== undefined && readStatus(coordinator.disk, row.uid, taskOfKey(key))?.state !== 'completed')
      return `of ${row.spec.id}: ${why.summary} ${why.details.join(' ')}`
  }
  return `${row.spec.id} has no open task`
}

/** Faults at random times, as long as the world is hostile. */
function unleash(world: World, network: Network, coordinator: SimCoordinator, workers: SimWorker[], kinds: readonly Fault[]): void {
  const next = () => {
    if (!world.hostile) return
    world.after(world.between(200, 4000), next)
    world.pick(kinds)({ world, network, coordinator, worker: world.pick(workers) })
  }
  world.after(world.between(500, 3000), next)
}

type Fault = (target: Target) => void

interface Target {
  world: World
  network: Network
  coordinator: SimCoordinator
  worker: SimWorker
}

function cut({ world, network, worker }: Target): void {
  const connections = network.of(worker.peer)
  if (connections.length === 0) return
  world.faults.cut += 1
  world.say(`${world.now} cut ${worker.name}`)
  for (const connection of connections) connection.cut()
}

function partition({ world, network, worker }: Target): void {
  if (network.isPartitioned(worker.peer)) return
  const ms = world.chance(0.3) ? world.between(20_000, 50_000) : world.between(500, 8000)
  world.faults.partition += 1
  world.say(`${world.now} partition ${worker.name} for ${ms}`)
  network.partition(worker.peer, ms)
}

function pauseWorker({ world, worker }: Target): void {
  if (!worker.process.isUp || worker.process.isPaused) return
  const ms = world.chance(0.2) ? world.between(20_000, 45_000) : world.between(200, 12_000)
  world.faults.pauseWorker += 1
  world.say(`${world.now} pause ${worker.name} for ${ms}`)
  worker.process.pause(ms)
}

function pauseCoordinator({ world, coordinator }: Target): void {
  if (!coordinator.process.isUp || coordinator.process.isPaused) return
  const ms = world.chance(0.2) ? world.between(8000, 40_000) : world.between(100, 4000)
  world.faults.pauseCoordinator += 1
  world.say(`${world.now} pause the coordinator for ${ms}`)
  coordinator.process.pause(ms)
}

function crashWorker({ world, worker }: Target): void {
  if (!worker.process.isUp) return
  const downMs = world.chance(0.2) ? world.between(10_000, 40_000) : world.between(300, 5000)
  world.faults.crashWorker += 1
  world.say(`${world.now} crash ${worker.name}`)
  restartLater(world, worker, downMs)
}

/** It dies at one of its failpoints, when it comes there. */
function failWorker({ world, worker }: Target): void {
  const name = world.pick(workerFailpoints)
  const downMs = world.chance(0.2) ? world.between(10_000, 40_000) : world.between(300, 5000)
  worker.failpoints.arm(name, 1, () => dieAt(world, name, worker.process, () => restartLater(world, worker, downMs)))
}

function failCoordinator({ world, coordinator }: Target): void {
  const name = world.pick(coordinatorFailpoints)
  const isCommon = name.startsWith('coordinator.batch.') || name === 'coordinator.effect.performed'
  const passings = isCommon ? world.between(1, 20) : 1
  coordinator.failpoints.arm(name, passings, () =>
    dieAt(world, name, coordinator.process, () => endCoordinator(world, coordinator, world.between(100, 6000))),
  )
}

/** There, or a moment later: then what it said is on its way, and its disk at work. True when it is dead now. */
function dieAt(world: World, name: SimFailpoint, process: Process, die: () => void): boolean {
  world.diedAt(name)
  world.say(`${world.now} ${name}: the process dies`)
  const isNow = world.chance(0.5)
  if (isNow) die()
  else process.later(world.between(0, 12), die)
  return isNow
}

function endCoordinator(world: World, coordinator: SimCoordinator, downMs: number): void {
  coordinator.crash()
  world.after(downMs, () => {
    if (!coordinator.process.isUp) coordinator.start()
  })
}

function restartLater(world: World, worker: SimWorker, ms: number): void {
  worker.crash()
  world.after(ms, () => {
    if (!worker.process.isUp) worker.start()
  })
}

function crashCoordinator({ world, coordinator }: Target): void {
  if (!coordinator.process.isUp) return
  world.faults.crashCoordinator += 1
  world.say(`${world.now} crash the coordinator`)
  endCoordinator(world, coordinator, world.between(100, 6000))
}

/** Its owner takes the machine down: what runs may end first, for a while. */
function drain({ world, worker }: Target): void {
  if (!worker.process.isUp || worker.process.isPaused || !world.chance(0.3)) return
  world.say(`${world.now} drain ${worker.name}`)
  worker.drain(world.chance(0.3))
  world.after(world.between(100, 15_000), () => {
    if (worker.process.isUp) restartLater(world, worker, world.between(500, 10_000))
  })
}

const ends: readonly Fault[] = [crashWorker, crashCoordinator, failWorker, failWorker, failCoordinator, failCoordinator]
const allFaults: readonly Fault[] = [cut, partition, pauseWorker, pauseCoordinator, drain, ...ends]
