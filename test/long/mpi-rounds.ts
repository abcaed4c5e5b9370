/**
 * Machines killed under MPI: a gang of three runs a ring of ranks on a mesh of four machines, one of the three goes away, and
 * again. Each time all of it must end everywhere, nothing may be left over, and the task must run again as one, by itself, and
 * succeed (M1), without spending a retry (C1).
 */
import type { TaskView } from '../../protocols/model/task.ts'
import { compileRing, type MpiMesh } from '../e2e/support/mpi.ts'
import { sh, submit, succeed, taskOf } from '../e2e/support/work.ts'
import { Dice } from '../fuzz/dice.ts'

/** After a machine went away, nothing of its gang may run for longer. */
const endWithinMs = 10_000
/** It would go round for so long. */
const wholeSeconds = 1000

export interface MpiRoundsOptions {
  rounds: number
  seed: number
  say?: (line: string) => void
}

export interface MpiRoundsResult {
  /** Machines that were killed, by what was there. */
  kills: { primary: number; subtask: number }
  /** How long the rest ran on, in ms, of each round. */
  endedAfterMs: number[]
}

export async function mpiRounds(mesh: MpiMesh, { rounds, seed, say = () => undefined }: MpiRoundsOptions): Promise<MpiRoundsResult> {
  const { lab } = mesh
  const dice = new Dice(seed)
  const ring = await compileRing(lab)
  await mesh.pool('hosts', mesh.workers.size)
  const result: MpiRoundsResult = { kills: { primary: 0, subtask: 0 }, endedAfterMs: [] }
  for (let round = 1; round <= rounds; round += 1) {
    const job = `round-${round}`
    const starts = await mesh.traces.file(job)
    const seconds = `$([ -s ${starts} ] && echo 0 || echo ${wholeSeconds})`
    const commandLine = sh(`exec mpirun -n 3 ${ring} ${seconds} ${starts}`)
    await submit(lab, mesh.founder, job, [{ id: 't', commandLine, multiInstanceSettings: { numberOfInstances: 3 } }], { poolId: 'hosts' })
    await lab.until('all ranks run', async () => (await mesh.traces.lines(job)).length === 3)
    const first = await taskOf(lab, mesh.founder, `${job}/t`)
    const primary = first.nodeInfo!.machineName
    const subtasks = (await lab.json(mesh.founder, ['task', 'subtasks', `${job}/t`])) as { nodeInfo: { machineName: string } }[]
    const victim = dice.pick([primary, ...subtasks.map(({ nodeInfo }) => nodeInfo.machineName)])
    const old = await mesh.processes()
    const killedAt = performance.now()
    await mesh.crash(victim)
    await lab.until('all of it has ended', async () => (await mesh.processes()).every((one) => !old.includes(one)), {
      deadlineMs: 6 * endWithinMs,
      everyMs: 50,
    })
    const tookMs = Math.round(performance.now() - killedAt)
    result.endedAfterMs.push(tookMs)
    result.kills[victim === primary ? 'primary' : 'subtask'] += 1
    // Back, with a new start of its node: nobody need wait whether it was only cut off.
    await mesh.heal(victim)
    await succeed(lab, mesh.founder, job)
    check(await taskOf(lab, mesh.founder, `${job}/t`), (await mesh.traces.lines(job)).length)
    await lab.until('nothing is left over', async () => (await mesh.processes()).length === 0)
    await lab.json(mesh.founder, ['job', 'delete', job, '--yes'])
    say(`${job}: ${victim === primary ? 'the primary' : 'a subtask'} on ${victim}; the rest ended after ${tookMs} ms`)
  }
  return result
}

/** It ran twice as a whole, and the machine that went away did not count as its failure. */
function check({ executionInfo, attempts }: TaskView, starts: number): void {
  const { retryCount, requeueCount } = executionInfo
  if (retryCount !== 0 || requeueCount < 1 || starts !== 3 * attempts.length)
    throw new Error(`it was tried again otherwise: ${JSON.stringify({ executionInfo, attempts, starts })}`)
}
