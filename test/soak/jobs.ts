/**
 * What is submitted in a round: each kind submits its job, waits for its end, checks what came out, and deletes it. Every
 * call goes on when the coordinator is away meanwhile. What is wrong is thrown as a {@link Broken}.
 */
import { createHash } from 'node:crypto'
import { chmod, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { joinCommandLine } from '../../protocols/model/command-line.ts'
import type { JobSpecInput } from '../../protocols/model/job.ts'
import { type TaskSpecInput, type TaskView, taskSpecSchema } from '../../protocols/model/task.ts'
import { type Mesh, MeshError } from '../../src/index.ts'
import { counted } from '../e2e/support/work.ts'
import type { Dice } from '../fuzz/dice.ts'

/** An invariant that does not hold. */
export class Broken extends Error {}

export interface Scene {
  mesh: Mesh
  dice: Dice
  /** A directory where every task may write. */
  traces: string
  /** Names jobs; unique in the run. */
  round: number
  /** A job that has not ended by then is broken. */
  signal: AbortSignal
}

const sh = (script: string): string => joinCommandLine(['sh', '-c', script])

/** Asks until it is answered: for calls that may come when the coordinator is down. */
export async function persistently<T>(signal: AbortSignal, ask: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await ask()
    } catch (error) {
      if (signal.aborted || !(error instanceof MeshError) || !error.retryable) throw error
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
  }
}

/** The job that a kind works with, and what its tasks write. */
class Work {
  readonly id: string
  readonly #scene: Scene
  readonly #files: string[] = []

  private constructor(scene: Scene, id: string) {
    this.#scene = scene
    this.id = id
  }

  static async create(scene: Scene, kind: string, spec: Omit<JobSpecInput, 'id'> = {}): Promise<Work> {
    const work = new Work(scene, `${kind}-${scene.round}`)
    const { signal } = scene
    await scene.mesh.control.call('addJob', { id: work.id, ...spec }, { signal, persist: true }).catch(unlessThere('JobExists'))
    return work
  }

  /** A file that tasks append to. */
  async trace(name: string): Promise<string> {
    const path = join(this.#scene.traces, `${this.id}.${name}`)
    await writeFile(path, '')
    await chmod(path, 0o666)
    this.#files.push(path)
    return path
  }

  async add(tasks: readonly TaskSpecInput[]): Promise<void> {
    const { mesh, signal } = this.#scene
    const checked = tasks.map((task) => taskSpecSchema.parse(task))
    const { results } = await mesh.control.call('addTasks', { jobId: this.id, tasks: checked }, { signal, persist: true })
    const refused = results.find(({ error }) => error !== undefined && error.code !== 'TaskExists')
    if (refused !== undefined) throw new Broken(`${this.id}/${refused.taskId} was refused: ${refused.error!.message}`)
  }

  /** When all tasks are complete: they, in the order of their ids. */
  async completed(count: number): Promise<TaskView[]> {
    const { mesh, signal } = this.#scene
    try {
      await mesh.jobs.wait(this.id, { signal })
    } catch (error) {
      if (!signal.aborted) throw error
      throw new Broken(`${this.id} has not ended: ${await this.#why()}`)
    }
    const tasks = await persistently(signal, () => Array.fromAsync(mesh.tasks.list(this.id)))
    if (tasks.length !== count) throw new Broken(`${this.id} has ${tasks.length} tasks; ${count} were acknowledged`)
    for (const task of tasks) this.#once(task)
    return tasks
  }

  /** L1: one result a task, and that of its last attempt. */
  #once({ id, attempts, state, executionInfo }: TaskView): void {
    const commits = attempts.filter(({ end }) => end === 'success').length
    if (state !== 'completed' || commits !== (executionInfo.result === 'success' ? 1 : 0))
      throw new Broken(`${this.id}/${id} is ${state}, ${executionInfo.result}, with ${commits} committed results`)
  }

  /** Every task began no more often than it has attempts; with `exactly` as often. */
  async began(tasks: readonly TaskView[], trace: string): Promise<void> {
    const begun = counted(await lines(trace))
    for (const { id, attempts } of tasks) {
      const times = begun.get(id) ?? 0
      const granted = attempts.at(-1)?.epoch ?? 0
      if (times < 1 || times > granted) throw new Broken(`${this.id}/${id} began ${times} times in ${granted} attempts`)
    }
  }

  succeeded(tasks: readonly TaskView[]): void {
    const bad = tasks.find(({ executionInfo }) => executionInfo.result !== 'success')
    if (bad === undefined) return
    const { failureInfo, exitCode } = bad.executionInfo
    throw new Broken(`${this.id}/${bad.id} failed: ${failureInfo?.code} ${failureInfo?.message} (${exitCode}) ${bad.stderrTail ?? ''}`)
  }

  async delete(): Promise<void> {
    const { mesh, signal } = this.#scene
    await mesh.control.call('deleteJob', { jobId: this.id }, { signal, persist: true }).catch(unlessThere('JobNotFound'))
    for (const file of this.#files) await rm(file)
  }

  async #why(): Promise<string> {
    try {
      const { counts } = await this.#scene.mesh.jobs.get(this.id)
      const { summary, details } = await this.#scene.mesh.jobs.explain(this.id)
      return [JSON.stringify(counts), summary, ...details].join('; ')
    } catch (error) {
      return String(error)
    }
  }
}

function unlessThere(code: string): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof MeshError) || error.code !== code) throw error
  }
}

async function lines(path: string): Promise<string[]> {
  return (await readFile(path, 'utf8')).split('\n').filter((line) => line !== '')
}

/** Commands that sleep a little. */
export async function commands(scene: Scene): Promise<number> {
  const work = await Work.create(scene, 'commands')
  const trace = await work.trace('starts')
  const count = 30 + scene.dice.below(40)
  const specs = Array.from({ length: count }, (_, n) => ({
    id: `t${n}`,
    commandLine: sh(`echo t${n} >> ${trace}; sleep 0.${scene.dice.below(8)}; echo out ${n}`),
  }))
  // in two requests: the second finds a job that is at work
  await work.add(specs.slice(0, 20))
  await work.add(specs.slice(20))
  const tasks = await work.completed(count)
  work.succeeded(tasks)
  await work.began(tasks, trace)
  await work.delete()
  return count
}

/** An array of commands that end at once. */
export async function array(scene: Scene): Promise<number> {
  const { mesh, signal, dice } = scene
  const work = await Work.create(scene, 'array')
  const trace = await work.trace('starts')
  const count = 100 + dice.below(200)
  const template = { commandLine: sh(`echo {index:04} >> ${trace}`) }
  const spec = { jobId: work.id, array: { template, indexes: [{ start: 1, end: count }] } }
  await mesh.control.call('addTaskArray', spec, { signal, persist: true }).catch(unlessThere('TaskExists'))
  const tasks = await work.completed(count)
  work.succeeded(tasks)
  const begun = counted((await lines(trace)).map((index) => String(Number(index))))
  for (let index = 1; index <= count; index += 1)
    if (!begun.has(String(index))) throw new Broken(`index ${index} of ${work.id} never began`)
  await work.delete()
  return count
}

/** Functions in worker threads. */
export async function functions(scene: Scene): Promise<number> {
  const { mesh, signal, dice } = scene
  const inputs = Array.from({ length: 20 + dice.below(40) }, (_, n) => n)
  const options = { jobId: `functions-${scene.round}`, signal, retries: 0 }
  let at = 0
  for await (const square of mesh.map((n: number) => n * n, inputs, options)) {
    if (square !== at * at) throw new Broken(`the function of ${at} answered ${square}`)
    at += 1
  }
  if (at !== inputs.length) throw new Broken(`${inputs.length} functions gave ${at} results`)
  await mesh.control.call('deleteJob', { jobId: options.jobId }, { signal, persist: true }).catch(unlessThere('JobNotFound'))
  return inputs.length
}

/** Inputs and outputs as blobs, each output another. */
export async function blobs(scene: Scene): Promise<number> {
  const { mesh, dice, signal } = scene
  const input = dice.bytes(64 << 10)
  const { id } = await persistently(signal, () => mesh.blobs.putBytes(input, { pin: false }))
  const work = await Work.create(scene, 'blobs')
  const count = 6 + dice.below(10)
  await work.add(
    Array.from({ length: count }, (_, n) => ({
      id: `t${n}`,
      commandLine: sh(`cat in.bin > out.bin && echo ${work.id} ${n} >> out.bin`),
      resourceFiles: [{ filePath: 'in.bin', blob: id, ...(n % 3 === 0 ? { shared: true } : {}) }],
      outputFiles: [{ filePattern: '*.bin', uploadCondition: 'tasksuccess' as const }],
    })),
  )
  const tasks = await work.completed(count)
  work.succeeded(tasks)
  for (const { id: task, outputs } of tasks) {
    const output = outputs.find(({ path }) => path === 'out.bin')
    if (output === undefined) throw new Broken(`${work.id}/${task} has no output`)
    const bytes = await persistently(signal, () => mesh.blobs.read(output.blob))
    const expected = Buffer.concat([input, Buffer.from(`${work.id} ${task.slice(1)}\n`)])
    if (digest(bytes) !== digest(expected)) throw new Broken(`${work.id}/${task}: the output is not what was written`)
  }
  await work.delete()
  return count
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** One task before several before one. */
export async function dependencies(scene: Scene): Promise<number> {
  const work = await Work.create(scene, 'dependencies', { usesTaskDependencies: true })
  const trace = await work.trace('starts')
  const middle = Array.from({ length: 4 + scene.dice.below(6) }, (_, n) => `b${n}`)
  const spec = (id: string, taskIds: string[]): TaskSpecInput => ({
    id,
    commandLine: sh(`echo ${id} >> ${trace}; sleep 0.1`),
    dependsOn: { taskIds },
  })
  await work.add([spec('a', []), ...middle.map((id) => spec(id, ['a'])), spec('c', middle)])
  const tasks = await work.completed(middle.length + 2)
  work.succeeded(tasks)
  await work.began(tasks, trace)
  const info = (id: string) => tasks.find((task) => task.id === id)!.executionInfo
  for (const id of middle)
    if (info(id).startTime! < info('a').endTime! || info('c').startTime! < info(id).endTime!)
      throw new Broken(`${work.id}/${id} did not run between a and c`)
  await work.delete()
  return middle.length + 2
}

/** Some fail twice and then succeed, some fail until their retries are spent. */
export async function retries(scene: Scene): Promise<number> {
  const work = await Work.create(scene, 'retries')
  const trace = await work.trace('starts')
  const flaky = Array.from({ length: 6 }, (_, n) => ({
    id: `flaky${n}`,
    commandLine: sh(`echo flaky${n} >> ${trace}; [ $(grep -cx flaky${n} ${trace}) -ge 3 ]`),
    constraints: { maxTaskRetryCount: 2 },
  }))
  const hopeless = Array.from({ length: 3 }, (_, n) => ({
    id: `hopeless${n}`,
    commandLine: sh(`echo hopeless${n} >> ${trace}; exit 3`),
    constraints: { maxTaskRetryCount: 2 },
  }))
  await work.add([...flaky, ...hopeless])
  const tasks = await work.completed(9)
  await work.began(tasks, trace)
  work.succeeded(tasks.filter(({ id }) => id.startsWith('flaky')))
  for (const { id, executionInfo } of tasks.filter((task) => task.id.startsWith('hopeless'))) {
    const { result, exitCode, retryCount } = executionInfo
    // C1: what the machine is to blame for spends none
    if (result !== 'failure' || exitCode !== 3 || retryCount !== 2)
      throw new Broken(`${work.id}/${id} ended as ${result} with ${exitCode} after ${retryCount} retries`)
  }
  await work.delete()
  return 9
}

/** Tasks without an end, whose job is deleted while they run. `sleep` gets a number that no other process has. */
export async function endless(scene: Scene): Promise<number> {
  const { mesh, signal } = scene
  const work = await Work.create(scene, 'endless')
  await work.add(Array.from({ length: 4 }, (_, n) => ({ id: `t${n}`, commandLine: joinCommandLine(['sleep', endlessWord(scene.round)]) })))
  while ((await persistently(signal, () => mesh.jobs.counts(work.id))).running === 0) {
    if (signal.aborted) throw new Broken(`no task of ${work.id} began`)
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
  if (scene.dice.chance(0.5))
    await mesh.control.call('terminateJob', { jobId: work.id }, { signal, persist: true }).catch(unlessThere('JobCompleted'))
  await work.delete()
  return 4
}

export function endlessWord(round: number): string {
  return `86400.${String(round).padStart(6, '0')}`
}

/** A pool of its own, that is made larger and smaller while it works. */
export async function pool(scene: Scene): Promise<number> {
  const { mesh, signal } = scene
  const poolId = `pool-${scene.round}`
  const again = <T>(ask: () => Promise<T>) => persistently(signal, ask)
  const spec = { id: poolId, vmSize: 'cores=1,memory=64MiB', targetDedicatedNodes: 1, taskSlotsPerNode: 1 }
  await again(() => mesh.pools.create(spec).then(() => undefined, unlessThere('PoolExists')))
  const work = await Work.create(scene, 'pool', { poolId })
  const trace = await work.trace('starts')
  await work.add(Array.from({ length: 12 }, (_, n) => ({ id: `t${n}`, commandLine: sh(`echo t${n} >> ${trace}; sleep 0.3`) })))
  await again(() => mesh.pools.resize(poolId, { targetDedicatedNodes: 2 }))
  const tasks = await work.completed(12)
  work.succeeded(tasks)
  await work.began(tasks, trace)
  await again(() => mesh.pools.resize(poolId, { targetDedicatedNodes: 1 }))
  await work.delete()
  await again(() => mesh.pools.delete(poolId).then(() => undefined, unlessThere('PoolNotFound')))
  return 12
}
