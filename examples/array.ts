/** Jobs and tasks by hand: an array of a thousand tasks is one request. */
import { connect } from 'batchmesh'

await using mesh = await connect()

const jobId = `dice-${process.pid}`
await mesh.jobs.create({ id: jobId, priority: 10 })
const { count, firstTaskId, lastTaskId } = await mesh.tasks.addArray(jobId, {
  indexes: [{ start: 1, end: 200 }],
  template: { commandLine: 'test {index} -ne 66' },
})
console.log(`${count} tasks, ${firstTaskId} to ${lastTaskId}`)

const job = await mesh.jobs.wait(jobId)
console.log(`${job.counts.succeeded} succeeded, ${job.counts.failed} failed`)
for await (const task of mesh.tasks.list(jobId, { result: 'failure' })) console.log(`${task.id}: ${task.commandLine}`)
await mesh.jobs.delete(jobId)
