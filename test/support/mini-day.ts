/** What happens on a {@link MiniMesh}: everything that a coordinator and a worker write down and say, once; and what must be true after it. */

import { joinCommandLine } from '../../protocols/model/command-line.ts'
import type { TaskView } from '../../protocols/model/task.ts'
import type { MiniMesh } from './mini-mesh.ts'

const commandLine = joinCommandLine(['true'])

/** Goes through it to the end, whoever dies meanwhile; the answer: what was found broken. */
export async function day(mesh: MiniMesh): Promise<string[]> {
  const acknowledged = new Map<string, string[]>()
  const add = async (jobId: string, tasks: { id: string; commandLine: string; dependsOn?: { taskIds: string[] } }[]) => {
    const answer = await mesh.ask((session) => session.call('addTasks', { jobId, tasks }))
    for (const { taskId, error } of answer!.results)
      if (error !== undefined && error.code !== 'TaskExists') mesh.broken.push(`${taskId}: ${error.code}`)
    acknowledged.set(jobId, [...(acknowledged.get(jobId) ?? []), ...tasks.map(({ id }) => id)])
  }
  const tasks = (...ids: string[]) => ids.map((id) => ({ id, commandLine }))
  await mesh.ask((session) => session.call('addPool', { id: 'p', vmSize: 'cores=1,memory=64MiB', targetDedicatedNodes: 1 }), 'PoolExists')
  await mesh.ask((session) => session.call('addJob', { id: 'gone' }), 'JobExists')
  await add('gone', tasks('x'))
  await mesh.ask((session) => session.call('addJob', { id: 'main', usesTaskDependencies: true }), 'JobExists')
  await add('main', [...tasks('t0', 't1'), { id: 't2', commandLine, dependsOn: { taskIds: ['t0'] } }])
  await mesh.ask((session) => session.call('deleteJob', { jobId: 'gone' }), 'JobNotFound')
  acknowledged.delete('gone')
  const array = { indexes: [{ start: 0, end: 2 }], template: { commandLine } }
  await mesh.ask((session) => session.call('addTaskArray', { jobId: 'main', array }), 'TaskExists')
  acknowledged.get('main')!.push('0000', '0001', '0002')
  await mesh.ask((session) => session.call('addJob', { id: 'pooled', poolId: 'p' }), 'JobExists')
  await add('pooled', tasks('p0', 'p1'))
  for (const [jobId, ids] of acknowledged) checkTasks(mesh, jobId, ids, await ended(mesh, jobId))
  await mesh.ask((session) => session.call('deletePool', { poolId: 'p' }), 'PoolNotFound')
  await until(mesh, () => mesh.worker!.status().connected && mesh.worker!.status().reservations.length === 0)
  await until(mesh, () => mesh.journal.keys().every((key) => !key.startsWith('reservation/') && !key.startsWith('finished/')))
  await until(mesh, () => mesh.rows.keys().filter((key) => key.startsWith('job/')).length === 2)
  return mesh.broken
}

async function ended(mesh: MiniMesh, jobId: string): Promise<TaskView[]> {
  for (;;) {
    const page = await mesh.ask((session) => session.call('listTasks', { jobId }))
    if (page!.items.every(({ state }) => state === 'completed')) return page!.items
    await new Promise(setImmediate)
  }
}

function checkTasks(mesh: MiniMesh, jobId: string, ids: readonly string[], tasks: readonly TaskView[]): void {
  const found = tasks.map(({ id }) => id).toSorted()
  if (found.join() !== ids.toSorted().join()) mesh.broken.push(`L5: ${ids.join()} were acknowledged, ${found.join()} are there`)
  for (const { id, executionInfo, attempts } of tasks) {
    const ends = attempts.map(({ end }) => end)
    if (executionInfo.result !== 'success' || executionInfo.retryCount > 0) mesh.broken.push(`C1: ${jobId}/${id} ended with ${ends.join()}`)
    if (ends.filter((end) => end === 'success').length !== 1) mesh.broken.push(`L1: ${jobId}/${id} has the attempts ${ends.join()}`)
  }
}

/** Waits, and starts again whoever dies meanwhile. */
async function until(mesh: MiniMesh, holds: () => boolean): Promise<void> {
  while (!holds()) {
    await mesh.start()
    await new Promise(setImmediate)
  }
}
