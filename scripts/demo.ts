/**
 * The demonstration: a film is rendered by a mesh of four nodes on this machine, and one of them is killed half-way.
 * Run it by scripts/demo [--plain], which builds first; --plain leaves out POV-Ray and ffmpeg. What it makes is in out/demo; it leaves no process behind.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TaskView } from '../protocols/model/task.ts'
import type { Mesh } from '../src/mesh/client.ts'
import { connect } from '../src/mesh.ts'
import { attemptsOf, type TimelineAttempt, timelineSvg } from '../src/timeline.ts'
import { DemoMesh, type DemoNode, run } from './demo-mesh.ts'

const root = join(import.meta.dirname, '..')
const film = join(root, 'examples', 'film')
const out = join(root, 'out', 'demo')
const logs = join(out, 'logs')
const framesDir = join(out, 'frames')

const frames = 48
const fps = 16
/** Frames that are rendered one by one beforehand: evenly spread, as the cost of a frame changes slowly along the film. */
const sampleFrames = [1, 13, 25, 37]
/** The whole is to take less than three minutes; a slower machine gets a smaller picture. */
const longestRenderSeconds = 75
const reduceId = 'reduce'
const poolId = 'film'
/** A frame that has been rendered this long is worth killing. */
const inTheMiddleMs = 300
/** Longest wait for a step of the mesh that takes a second at most on an idle machine. */
const patienceMs = 30_000

const begin = Date.now()
const say = (text: string): void => console.log(text)
const stage = (text: string): void => console.log(`\n[${((Date.now() - begin) / 1000).toFixed(1).padStart(5)} s] ${text}`)
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`
const here = (path: string): string => relative(process.cwd(), path) || '.'

/** The programs that make the film, as far as this machine has them. */
interface Maker {
  /** Command line of a frame; `index` is its number, or the placeholder for it. */
  frame: (index: string) => string
  reduce: string
  filmName: string
  files: string[]
  smaller?: Maker
}

async function has(program: string): Promise<boolean> {
  return run('sh', ['-c', `command -v ${program}`]).then(
    () => true,
    () => false,
  )
}

/** A Node.js that tasks can reach: they run as another user, who need not see this checkout. */
async function nodeForTasks(): Promise<string> {
  for (const node of ['/usr/local/bin/node', '/usr/bin/node']) {
    // raytrace.mjs needs zlib.crc32, which is younger than the rest of what it uses
    const suits = await run(node, ['-e', 'process.exit(require("node:zlib").crc32 ? 0 : 1)']).catch(() => undefined)
    if (suits !== undefined) return node
  }
  return process.execPath
}

async function chooseMaker(isPlain: boolean): Promise<Maker> {
  const [povray, ffmpeg] = isPlain ? [false, false] : await Promise.all([has('povray'), has('ffmpeg')])
  const node = await nodeForTasks()
  if (!povray)
    say(
      `${isPlain ? 'As asked, without POV-Ray' : 'POV-Ray is not here and could not be installed'}: frames come from examples/film/raytrace.mjs, plain Node.`,
    )
  if (!ffmpeg)
    say(
      `${isPlain ? 'As asked, without ffmpeg' : 'ffmpeg is not here and could not be installed'}: examples/film/join.mjs makes an animated PNG instead of an mp4.`,
    )
  const joining = ffmpeg
    ? {
        reduce: `ffmpeg -loglevel error -y -threads 1 -framerate ${fps} -pattern_type glob -i 'frame*.png' -pix_fmt yuv420p film.mp4`,
        filmName: 'film.mp4',
        files: [],
      }
    : { reduce: `${node} join.mjs --fps ${fps} --out film.png frame*.png`, filmName: 'film.png', files: [join(film, 'join.mjs')] }
  const maker = (width: number, height: number): Maker =>
    povray
      ? {
          ...joining,
          // +WT1: a slot is one core; POV-Ray itself appends the frame's number to the name
          frame: (index) => `povray +Iscene.pov +Oframe.png +W${width} +H${height} +A0.2 -D +WT1 +KFF${frames} +KC +SF${index} +EF${index}`,
          files: [...joining.files, join(film, 'scene.pov')],
        }
      : {
          ...joining,
          frame: (index) =>
            `${node} raytrace.mjs --frame ${index} --frames ${frames} --width ${width} --height ${height} --out frame$(printf %02d ${index}).png`,
          files: [...joining.files, join(film, 'raytrace.mjs')],
        }
  return povray ? { ...maker(640, 360), smaller: maker(480, 270) } : { ...maker(320, 180), smaller: maker(240, 136) }
}

/** Renders some frames one after the other, without the mesh; the mean time of one in ms. */
async function measureSerial(chosen: Maker, cores: number): Promise<{ maker: Maker; frameMs: number }> {
  const directory = join(tmpdir(), `batchmesh-demo-serial-${process.pid}`)
  const time = async (maker: Maker, indexes: readonly number[]): Promise<number> => {
    const from = performance.now()
    for (const index of indexes) await run('sh', ['-c', maker.frame(String(index))], { cwd: directory })
    return (performance.now() - from) / indexes.length
  }
  mkdirSync(directory)
  try {
    await run('cp', [...chosen.files, directory])
    // the first one warms the file cache as well, so it only decides about the size
    const probeMs = await time(chosen, sampleFrames.slice(0, 1))
    const isSlow = (probeMs * frames) / cores > longestRenderSeconds * 1000
    const maker = isSlow ? (chosen.smaller ?? chosen) : chosen
    if (isSlow) say('This machine is busy or slow: the picture is made smaller.')
    return { maker, frameMs: await time(maker, sampleFrames) }
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Waits until a condition holds; what nodes agree on takes a moment after each step. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + patienceMs
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`There were not ${what} within ${seconds(patienceMs)}; see ${here(logs)}.`)
    await sleep(100)
  }
}

async function theJob(client: Mesh, submitted: Promise<number>): Promise<string> {
  const ended = submitted.then(() => 'ended' as const)
  for (;;) {
    const job = (await client.control.call('listJobs', {})).items[0]
    if (job !== undefined) return job.id
    if ((await Promise.race([ended, sleep(100)])) === 'ended')
      throw new Error(`batchmesh run ended without a job; see ${here(join(logs, 'run.log'))}.`)
  }
}

async function listTasks(client: Mesh, jobId: string): Promise<TaskView[]> {
  const tasks: TaskView[] = []
  let after: string | undefined
  do {
    const page = await client.control.call('listTasks', { jobId, ...(after === undefined ? {} : { after }) })
    tasks.push(...page.items)
    after = page.next
  } while (after !== undefined)
  return tasks
}

const taskName = (id: string): string => (id === reduceId ? 'the joining' : `frame ${Number(id)}`)

/** Follows the job, and strikes once half of the frames are done and the victim is at work; answers when that was. */
async function follow(
  client: Mesh,
  jobId: string,
  signal: AbortSignal,
  victim: DemoNode,
  strike: (atWork: string[]) => Promise<void>,
): Promise<number | undefined> {
  let struckAt: number | undefined
  let told = 0
  const inTheMiddle = async (): Promise<string[]> => {
    const { items } = await client.control.call('listTasks', { jobId, state: 'running' })
    const begunBefore = Date.now() - inTheMiddleMs
    return items
      .filter(({ nodeInfo, executionInfo }) => nodeInfo?.machine === victim.peer && (executionInfo.startTime ?? Date.now()) <= begunBefore)
      .map(({ id }) => id)
  }
  try {
    for await (const { counts } of client.watchJob(jobId, signal)) {
      if (counts.completed >= told + frames / 8) {
        told = counts.completed
        say(`  ${String(told).padStart(3)} of ${frames + 1} tasks done, ${counts.running} running`)
      }
      if (struckAt === undefined && counts.completed >= frames / 2) {
        const atWork = await inTheMiddle()
        if (atWork.length === 0) continue
        struckAt = Date.now()
        await strike(atWork)
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  }
  return struckAt
}

async function demo(mesh: DemoMesh): Promise<void> {
  const cores = availableParallelism()
  const each = Math.max(1, Math.floor(cores / 2))
  rmSync(out, { recursive: true, force: true })
  mkdirSync(logs, { recursive: true })

  const chosen = await chooseMaker(process.argv.includes('--plain'))
  stage(`One after the other: frames ${sampleFrames.join(', ')} of ${frames}, without the mesh`)
  const { maker, frameMs } = await measureSerial(chosen, cores)
  say(`  ${seconds(frameMs)} a frame, so ${seconds(frameMs * frames)} for all ${frames} on one core`)

  stage('The mesh: a founder, and three workers that join by its token')
  const founder = await mesh.up('founder', ['--lend-cpus', '1', '--label', 'role=founder'])
  const token = join(mesh.tmp, 'token')
  writeFileSync(token, await mesh.invite(founder, 3), { mode: 0o600 })
  const lends = ['--lend-cpus', String(each), '--label', 'role=render']
  const workers = await Promise.all(['worker-1', 'worker-2', 'worker-3'].map((name) => mesh.up(name, ['--join', token, ...lends])))
  for (const { name, pid, peer } of mesh.nodes) say(`  ${name}: process ${pid}, peer ${peer}`)

  const client = await connect({ dataDir: founder.dataDir })
  try {
    await until('three workers at the coordinator', async () => {
      const { items } = await client.control.call('listMachines', {})
      return workers.every(({ peer }) => items.some((machine) => machine.peer === peer && machine.connected))
    })
    const size = ['--vm-size', `cores=${each},memory=256MiB`, '--task-slots-per-node', String(each), '--label', 'role=render']
    await mesh.command(founder, ['pool', 'create', poolId, '--target-dedicated-nodes', '2', ...size])
    await until('two nodes in the pool', async () => (await client.control.call('getPool', { poolId })).currentDedicatedNodes === 2)
    const { items: nodes } = await client.control.call('listNodes', { poolId })
    const [first, victim] = workers.filter(({ peer }) => nodes.some(({ machine }) => machine === peer))
    const spare = workers.find((worker) => worker !== first && worker !== victim)
    if (first === undefined || victim === undefined || spare === undefined)
      throw new Error('The pool has no two nodes on two workers; see the logs.')
    say(
      `  Pool ${poolId}: ${each} of the ${cores} cores from ${first.name} and from ${victim.name} each, so ${2 * each} slots, never more than there are cores.`,
    )
    say(`  ${spare.name} stands by; the founder only coordinates.`)

    stage('The job: batchmesh run')
    const words = [
      'run',
      maker.frame('{index}'),
      '--array',
      `1-${frames}`,
      '--pool-id',
      poolId,
      '--outputs',
      'frame*.png',
      '--to',
      'frames',
    ]
    for (const file of maker.files) words.push('--with', file)
    words.push('--reduce', maker.reduce, '--reduce-outputs', maker.filmName)
    say(`  batchmesh ${words.map((word) => (/^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ')}`)
    const submitted = mesh.submit(founder, words, join(logs, 'run.log'), out)
    const jobId = await theJob(client, submitted)
    const watching = new AbortController()
    const following = follow(client, jobId, watching.signal, victim, async (atWork) => {
      mesh.kill(victim)
      say(`  ${victim.name} is killed (SIGKILL to process ${victim.pid}) in the middle of ${atWork.map(taskName).join(' and ')}`)
      await mesh.command(founder, ['pool', 'resize', poolId, '--target-dedicated-nodes', '3'])
      say(`  The pool may have a third node now: ${spare.name} takes the place of ${victim.name}.`)
    })
    const code = await submitted
    watching.abort()
    const killedAt = await following
    const tasks = await listTasks(client, jobId)
    await report({ mesh, tasks, maker, frameMs, killedAt, victim, jobId, slots: 2 * each, cores })
    if (code !== 0) throw new Error(`batchmesh run ended with ${code}; see ${here(join(logs, 'run.log'))}.`)
    if (killedAt === undefined) throw new Error('No node was killed: the job was over before.')
  } finally {
    await client.close()
  }
}

interface Result {
  mesh: DemoMesh
  tasks: TaskView[]
  maker: Maker
  frameMs: number
  killedAt: number | undefined
  victim: DemoNode
  jobId: string
  slots: number
  cores: number
}

async function report({ mesh, tasks, maker, frameMs, killedAt, victim, jobId, slots, cores }: Result): Promise<void> {
  stage('What came of it')
  const attempts = attemptsOf(tasks, killedAt ?? Date.now())
  const rendering = attempts.filter(({ task }) => task !== reduceId)
  const names = new Map(mesh.nodes.map(({ peer, name }) => [peer as string, name]))
  const succeeded = tasks.filter(({ executionInfo }) => executionInfo.result === 'success').length
  say(`  ${succeeded} of ${tasks.length} tasks succeeded.`)
  const again = tasks.filter(({ attempts }) => attempts.filter(({ startTime }) => startTime !== undefined).length > 1)
  for (const { id, attempts } of again) {
    const way = attempts.map(({ machine, end }) => `${names.get(machine) ?? machine} (${end ?? 'running'})`).join(', then ')
    say(`  Run again because ${victim.name} was killed: ${taskName(id)} on ${way}`)
  }
  if (again.length === 0) say('  No task had to run again.')

  const timeline = join(out, 'timeline.svg')
  // the coordinator learns of the end later; the program itself ended with its node
  const endOf = ({ machine, end }: TimelineAttempt): number => (machine === victim.peer ? Math.min(end, killedAt ?? end) : end)
  const short = attempts.map((attempt) => ({
    ...attempt,
    end: endOf(attempt),
    task: attempt.task === reduceId ? 'film' : String(Number(attempt.task)),
  }))
  const machines = mesh.nodes.map(({ peer, name }) => ({ id: peer as string, name }))
  const events = killedAt === undefined ? [] : [{ time: killedAt, machine: victim.peer, label: `${victim.name} killed` }]
  writeFileSync(
    timeline,
    timelineSvg({ title: `${jobId}: ${frames} frames on ${workersOf(mesh)} workers, by time`, machines, attempts: short, events }),
  )
  writeFileSync(join(out, 'tasks.json'), `${JSON.stringify(tasks, undefined, 2)}\n`)
  const made = join(framesDir, maker.filmName)
  if (existsSync(made)) renameSync(made, join(out, maker.filmName))

  if (rendering.length > 0) {
    const from = Math.min(...rendering.map(({ start }) => start))
    const wallMs = Math.max(...rendering.map(({ end }) => end)) - from
    say(
      `  ${frames} frames in ${seconds(wallMs)} with ${slots} slots on ${cores} cores, against ${seconds(frameMs * frames)} serially: ${((frameMs * frames) / wallMs).toFixed(2)} times as fast,`,
    )
    if (frameMs * frames > cores * wallMs)
      say('  more than the cores can give: the machine was busier during the sample; on an idle one the number is true;')
    say('  the work lost with the killed node included (serially: measured on a sample of the same frames).')
  }
  const filmPath = join(out, maker.filmName)
  say('')
  if (existsSync(filmPath)) say(`  Film:     ${here(filmPath)} (${Math.round(statSync(filmPath).size / 1024)} KiB)`)
  if (existsSync(framesDir))
    say(`  Frames:   ${here(framesDir)} (${readdirSync(framesDir).filter((name) => name.endsWith('.png')).length})`)
  say(`  Timeline: ${here(timeline)}`)
  say(`  Tasks:    ${here(join(out, 'tasks.json'))}`)
  say(`  Logs:     ${here(logs)}`)
}

const workersOf = (mesh: DemoMesh): number => mesh.nodes.length - 1

const mesh = await DemoMesh.create()
let closing: Promise<string[]> | undefined
const close = (): Promise<string[]> => {
  closing ??= mesh.keepLogs(logs).then(
    () => mesh.close(),
    () => mesh.close(),
  )
  return closing
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    console.error(`\n${signal}: the nodes are stopped.`)
    void close().then(() => process.exit(130))
  })
}
let failed = false
try {
  await demo(mesh)
} catch (error) {
  failed = true
  if (closing === undefined) console.error(`\ndemo: ${error instanceof Error ? error.message : String(error)}`)
}
const left = await close()
if (left.length > 0) console.error(`\ndemo: left behind:\n${left.join('\n')}`)
else stage('All nodes are stopped; no process is left.')
process.exitCode = failed || left.length > 0 ? 1 : 0
