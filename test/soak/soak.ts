/**
 * The soak: rounds of jobs, each with a fault or a quiet one, until the time is over; every node is measured all the while.
 * In the first 40 % of the time the coordinator is killed every 20 minutes (in a short run more often); then it lives on, so
 * that what it holds can grow.
 */
import { chmod, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect, type Mesh } from '../../src/index.ts'
import { Dice } from '../fuzz/dice.ts'
import { coordinatorKilled, type Fault, nextFault } from './faults.ts'
import { broken, reservations, settled } from './invariants.ts'
import * as jobs from './jobs.ts'
import { Machines } from './nodes.ts'
import { Record } from './record.ts'
import { sample } from './sampler.ts'

export interface SoakOptions {
  hours: number
  seed: number
  workers: number
  /** Directory for what it writes. */
  out: string
  /** Ends it early. */
  stop: AbortSignal
}

const sampleMs = 15_000
/** A round takes at least so long: the load stays moderate. */
const roundMs = 60_000
/** Longest that a round's jobs may take, faults included: leases of a cut machine are given up after 30 s to 10 min. */
const jobsMs = 15 * 60_000
const coordinatorKillMs = 20 * 60_000
const coordinatorKillShare = 0.4
/** Rounds between pictures. */
const plotEvery = 10

const kinds = {
  commands: jobs.commands,
  array: jobs.array,
  functions: jobs.functions,
  blobs: jobs.blobs,
  dependencies: jobs.dependencies,
  retries: jobs.retries,
  endless: jobs.endless,
  pool: jobs.pool,
}

export async function soak({ hours, seed, workers, out, stop }: SoakOptions): Promise<boolean> {
  const record = new Record(out)
  record.say(`soak of ${hours} h with seed ${seed}, ${workers} workers; results in ${out}`)
  await using machines = await Machines.create(workers)
  if (machines.network === undefined) record.say('no network namespaces here (root on Linux has them): connections are not cut')
  const traces = join(machines.lab.root, 'traces')
  await mkdir(traces)
  await chmod(traces, 0o777)
  await using mesh = await connect({ dataDir: machines.founder.dataDir })
  const dice = new Dice(seed)
  const end = AbortSignal.any([stop, AbortSignal.timeout(hours * 3_600_000)])
  const sampling = sampleUntil(end, machines, record)
  const killEveryMs = Math.min(coordinatorKillMs, (hours * 3_600_000) / 6)
  let nextKillMs = killEveryMs
  const totals = { seed, rounds: 0, tasks: 0, faults: {} as { [name: string]: number } }
  const title = () =>
    `Batchmesh soak, ${(record.seconds / 3600).toFixed(2)} h, seed ${seed}: ${totals.rounds} rounds, ${totals.tasks} tasks, ${Object.values(totals.faults).reduce((a, b) => a + b, 0)} faults`
  let baseline: { [name: string]: unknown } = {}
  await settled(async () => {
    baseline = await reservations(mesh)
    return broken(machines, mesh, baseline, 0)
  }, end)
  while (!end.aborted) {
    const begin = performance.now()
    totals.rounds += 1
    let fault: Fault | undefined
    if (record.seconds * 1000 > nextKillMs && record.seconds < hours * 3600 * coordinatorKillShare) {
      fault = coordinatorKilled(machines, dice)
      nextKillMs += killEveryMs
    } else fault = nextFault(machines, dice)
    if (fault !== undefined) {
      record.mark(fault.machine, fault.name)
      const kind = `${fault.machine === 'founder' ? 'founder' : 'worker'} ${fault.name.split(' ')[0]}`
      totals.faults[kind] = (totals.faults[kind] ?? 0) + 1
    }
    totals.tasks += await round(machines, mesh, { dice, traces, round: totals.rounds, stop }, fault, record)
    if (stop.aborted) break
    for (const wrong of await settled(() => broken(machines, mesh, baseline, totals.rounds), stop).catch((error) => [String(error)]))
      if (!stop.aborted) record.broke(`round ${totals.rounds}: ${wrong}`)
    // What was told once must not be told of every later round.
    for (const name of await readdir(traces)) await rm(join(traces, name))
    const took = (performance.now() - begin) / 1000
    record.say(
      `round ${totals.rounds}: ${fault === undefined ? 'quiet' : `${fault.machine} ${fault.name}`}, ${took.toFixed(0)} s; ${totals.tasks} tasks so far; load ${(100 * record.load).toFixed(0)} % of a core`,
    )
    if (totals.rounds % plotEvery === 0) record.conclude(title(), totals)
    await pause(Math.max(0, roundMs - took * 1000), undefined, { signal: end }).catch(() => undefined)
  }
  await sampling
  const { well, lines } = record.conclude(title(), totals)
  record.say(`${title()}; load ${(100 * record.load).toFixed(0)} % of a core`)
  for (const line of lines) record.say(line)
  record.say(`see ${join(out, 'soak.svg')}, samples.csv and verdict.json beside it`)
  return well
}

/** The jobs of a round, all at once, while its fault happens. Answers how many tasks it had. */
async function round(
  machines: Machines,
  mesh: Mesh,
  { dice, traces, round, stop }: { dice: Dice; traces: string; round: number; stop: AbortSignal },
  fault: Fault | undefined,
  record: Record,
): Promise<number> {
  const scene = { mesh, dice, traces, round, signal: AbortSignal.any([stop, AbortSignal.timeout(jobsMs)]) }
  const chosen = Object.entries(kinds).filter(() => dice.chance(0.6))
  const told = async <T>(what: string, work: Promise<T>, otherwise: T): Promise<T> => {
    try {
      return await work
    } catch (error) {
      if (!stop.aborted)
        record.broke(`round ${round}, ${what}: ${error instanceof jobs.Broken ? error.message : ((error as Error).stack ?? String(error))}`)
      return otherwise
    }
  }
  const stopped = new Promise<undefined>((resolve) => stop.addEventListener('abort', () => resolve(undefined), { once: true }))
  const ended = Promise.all([
    told(`the fault (${fault?.machine} ${fault?.name})`, fault?.run() ?? Promise.resolve(), undefined),
    ...chosen.map(([name, submit]) => told(name, submit(scene), 0)),
  ])
  // What a fault has begun ends with the machines.
  const [, ...counts] = (await Promise.race([ended, stopped])) ?? []
  // A fault that went wrong must not spoil the rest of the run.
  for (const machine of machines.all) if (machine.process === undefined && !stop.aborted) await machines.start(machine)
  return counts.reduce((a, b) => a + b, 0)
}

async function sampleUntil(end: AbortSignal, machines: Machines, record: Record): Promise<void> {
  while (!end.aborted) {
    const samples = await Promise.all(machines.all.map((machine) => sample(machine, record.seconds)))
    record.add(samples.filter((one) => one !== undefined))
    await pause(sampleMs, undefined, { signal: end }).catch(() => undefined)
  }
}
