/**
 * Stories: transcripts of what is done to a coordinator and what must come out. A line that begins with `>` is done, the
 * lines below it came out, `#` begins a remark.
 */
import { explainTask } from '../../coordinator/explain.ts'
import { viewCounts } from '../../coordinator/view.ts'
import type { InventoryItem } from '../../protocols/leases.ts'
import { Scene, type TaskInput } from './scene.ts'
import { showStatus } from './show.ts'

interface Words {
  /** Words without `=`. */
  plain: string[]
  /** `name=value` words. */
  named: Record<string, string>
}

function wordsOf(text: string): Words {
  const words: Words = { plain: [], named: {} }
  for (const word of text.split(/ +/).filter((part) => part !== '')) {
    const named = /^([a-z]+)=(.*)$/i.exec(word)
    if (named === null) words.plain.push(word)
    else words.named[named[1]!] = named[2]!
  }
  return words
}

const number = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text))

type Command = (scene: Scene, words: Words) => string[]

const commands: Record<string, Command> = {
  nodes: (scene, { plain: [count], named: { cores } }) =>
    'abcdefgh'
      .slice(0, Number(count))
      .split('')
      .flatMap((name) => scene.hello(name, { cores: number(cores) })),
  machine: (scene, { plain: [name], named }) => {
    const { cores, incarnation, label } = named
    const labels = label === undefined ? undefined : Object.fromEntries([label.split(':') as [string, string]])
    const input = { cores: number(cores), class: named.class as 'low-priority' | undefined, labels, incarnation: number(incarnation) }
    return scene.hello(name!, Object.fromEntries(Object.entries(input).filter(([, value]) => value !== undefined)))
  },
  hello: (scene, { plain: [name, ...items], named: { incarnation } }) => {
    const inventory = items.map((item) => {
      const [attempt, state = 'running'] = item.split(':')
      return { attempt: attempt!, state: state as InventoryItem['state'] }
    })
    return scene.hello(name!, { inventory, ...(incarnation === undefined ? {} : { incarnation: Number(incarnation) }) })
  },
  pool: (scene, { plain: [id, ...flags], named }) =>
    scene.addPool({
      id: id!,
      targetDedicatedNodes: number(named.dedicated),
      targetLowPriorityNodes: number(named.low),
      taskSlotsPerNode: number(named.slots),
      enableInterNodeCommunication: flags.includes('inter'),
    }),
  granted: (scene) => scene.grantAll(),
  refused: (scene, { plain: [name, id, ...why] }) => scene.reserved(name!, Number(id), false, { reason: why.join(' ') }),
  resize: (scene, { plain: [poolId, target, option = 'requeue'] }) =>
    scene.ask({
      kind: 'resizePool',
      poolId: poolId!,
      targetDedicatedNodes: Number(target),
      nodeDeallocationOption: option as 'requeue' | 'terminate' | 'taskcompletion',
    }),
  'delete-pool': (scene, { plain: [poolId] }) => scene.ask({ kind: 'deletePool', poolId: poolId! }),
  job: (scene, { plain: [id, ...flags], named }) =>
    scene.addJob({
      id: id!,
      poolId: named.pool,
      priority: number(named.priority),
      maxParallelTasks: number(named.parallel),
      usesTaskDependencies: flags.includes('dependencies'),
      constraints: { maxTaskRetryCount: number(named.retries) ?? 0 },
      disconnect: { lostAfterMs: number(named.lostAfterMs), replace: !flags.includes('no-replace') },
    }),
  close: (scene, { plain: [jobId] }) => scene.ask({ kind: 'updateJob', jobId: jobId!, onAllTasksComplete: 'terminatejob' }),
  submit: (scene, { plain: [jobId, ...tasks] }) => scene.addTasks(jobId!, ...tasks.map(taskOf)),
  array: (scene, { plain: [jobId, ...ranges], named }) => {
    const indexes = ranges.map((text) => {
      const [, start, end = start, step = '1'] = /^(\d+)(?:-(\d+))?(?:\/(\d+))?$/.exec(text)!
      return { start: Number(start), end: Number(end), step: Number(step) }
    })
    const { after, gang } = named
    const multiInstanceSettings = gang === undefined ? undefined : { numberOfInstances: Number(gang), coordinationCommandLine: 'begin' }
    const template = { dependsOn: after === undefined ? undefined : parentsOf(after), multiInstanceSettings }
    return scene.addArray(jobId!, { indexes, idPrefix: named.prefix, template })
  },
  claim: (scene, { plain: [name, ...nodes], named }) =>
    scene.claim(name!, {
      slots: number(named.slots) ?? 1,
      prefetch: number(named.prefetch),
      waitMs: number(named.waitMs),
      id: named.id,
      nodes: nodes.length === 0 ? undefined : nodes,
    }),
  start: (scene, { plain: [name, ...attempts] }) => scene.started(name!, ...attempts),
  report: (scene, { plain: [name, attempt], named: { exit, fault } }) => {
    if (fault === undefined) return scene.report(name!, attempt!, Number(exit))
    const failureInfo = { category: 'servererror', code: fault as 'Unknown' | 'DiskFull', message: 'as the machine says' } as const
    return scene.report(name!, attempt!, undefined, { failureInfo })
  },
  retracted: (scene, { plain: [name, ...attempts] }) => scene.retracted(name!, ...attempts),
  gone: (scene, { plain: [name, how] }) => scene.gone(name!, how === 'dead'),
  silence: (scene, { plain: [name] }) => {
    scene.silence(name!)
    return []
  },
  drain: (scene, { plain: [name, ...rest] }) =>
    scene.drain(
      name!,
      rest.filter((word) => word !== 'leaving'),
      rest.includes('leaving'),
    ),
  tick: (scene, { plain: [seconds] }) => scene.tick(Number(seconds)),
  stall: (scene, { plain: [seconds] }) => scene.stall(Number(seconds)),
  restart: (scene, { plain: [seconds] }) => {
    scene.restart(Number(seconds ?? 0))
    return []
  },
  terminate: (scene, { plain: [what] }) => {
    const [jobId, taskId] = what!.split('/')
    if (taskId === undefined) return scene.ask({ kind: 'terminateJob', jobId: jobId! })
    return scene.ask({ kind: 'terminateTask', jobId: jobId!, taskId })
  },
  reactivate: (scene, { plain: [what] }) => {
    const [jobId, taskId] = what!.split('/')
    return scene.reactivate(jobId!, taskId!)
  },
  'delete-job': (scene, { plain: [jobId] }) => scene.ask({ kind: 'deleteJob', jobId: jobId! }),
  status: (scene, { plain: [what] }) => {
    const [jobId, taskId] = what!.split('/')
    return [showStatus(scene, scene.uidOf(jobId!), taskId!.toLowerCase())]
  },
  counts: (scene, { plain: [jobId] }) => {
    const { active, running, succeeded, failed } = viewCounts(scene.state.jobIds.get(jobId!)!)
    return [`${active} active, ${running} running, ${succeeded} succeeded, ${failed} failed`]
  },
  why: (scene, { plain: [what] }) => {
    const [jobId, taskId] = what!.split('/')
    const why = explainTask(scene.state, scene.state.jobIds.get(jobId!)!, taskId!, scene.now)
    return [why!.summary, ...why!.details.map((line) => `  ${line}`)]
  },
}

/** `id`, `id(gang:3)`, `id(slots:2,after:a+b+1-3)`. */
function taskOf(text: string): TaskInput {
  const [, id, options = ''] = /^([^(]+)(?:\((.*)\))?$/.exec(text)!
  const task: Exclude<TaskInput, string> = { id: id! }
  for (const option of options.split(',').filter((part) => part !== '')) {
    const [name, value] = option.split(':') as [string, string]
    if (name === 'gang') task.multiInstanceSettings = { numberOfInstances: Number(value), coordinationCommandLine: 'begin' }
    else if (name === 'slots') task.requiredSlots = Number(value)
    else if (name === 'after') task.dependsOn = parentsOf(value)
    else throw new Error(`The option ${name} of a task is not known to stories.`)
  }
  return task
}

function parentsOf(text: string): NonNullable<Exclude<TaskInput, string>['dependsOn']> {
  const taskIds: string[] = []
  const taskIdRanges: { start: number; end: number }[] = []
  for (const part of text.split('+')) {
    const range = /^(\d+)-(\d+)$/.exec(part)
    if (range === null) taskIds.push(part)
    else taskIdRanges.push({ start: Number(range[1]), end: Number(range[2]) })
  }
  return { taskIds, taskIdRanges }
}

/** The story as it goes now: its remarks and commands, with what comes out of each. */
export function tell(story: string): string {
  const scene = new Scene()
  const lines: string[] = []
  for (const line of story.split('\n')) {
    if (line.startsWith('#') || line === '') lines.push(line)
    if (!line.startsWith('> ')) continue
    const [name, ...rest] = line.slice(2).split(' ')
    const command = commands[name!]
    if (command === undefined) throw new Error(`The command ${name} is not known to stories: ${line}`)
    lines.push(line, ...command(scene, wordsOf(rest.join(' '))))
  }
  return `${lines.join('\n').trimEnd()}\n`
}
