/** What a report says of a job, added up from its tasks one by one: only numbers are kept of each, so that a million fit. */
import { splitCommandLine } from '../../../protocols/model/command-line.ts'
import type { AttemptRecord, TaskView } from '../../../protocols/model/task.ts'
import { showThreadTask } from '../../../protocols/model/thread-task.ts'
import { Failures } from '../run/failures.ts'

/** How an attempt ended, in the order in which kinds are stacked; `running` has not. */
export const kinds = ['success', 'running', 'failure', 'program-missing', 'lost', 'preempted', 'requeued', 'terminated'] as const
export type Kind = (typeof kinds)[number]

/** Bars that are drawn one by one; with more, each would be less than a pixel. */
export const mostBars = 2000
const mostListed = 15
const mostShapes = 1000

/** A compute node, or what is known of it when the pool has it no more. */
export interface NodeRow {
  id: string
  machine: string
  /** Task slots; absent when the node is gone. */
  slots: number | undefined
}

/** Ended or running attempts, a column each: `start` and `end` in ms since 1970. */
export interface Attempts {
  start: number[]
  end: number[]
  kind: number[]
  /** Index of the node. */
  node: number[]
  slots: number[]
  /** Task and number of the first `mostBars` attempts. */
  names: string[]
}

export interface Listed {
  id: string
  command: string
  machine: string
  tookMs: number
  attempts: AttemptRecord[]
  result: string
}

export interface TallyOptions {
  /** Ends what still runs. */
  now: number
  nodes: readonly NodeRow[]
  /** Names of machines by peer id. */
  machines: ReadonlyMap<string, string>
  /** Cores behind a slot, for tasks that name none. */
  coresPerSlot: number
}

export class Tally {
  readonly attempts: Attempts = { start: [], end: [], kind: [], node: [], slots: [], names: [] }
  readonly nodes: NodeRow[]
  readonly failures = new Failures()
  /** Command of the first task of each group of failures, by the task's id. */
  readonly failedCommands = new Map<string, string>()
  readonly states = { waiting: 0, running: 0, succeeded: 0, failed: 0 }
  /** Attempts by how they ended. */
  readonly ends: Record<Kind, number> = emptyKinds()
  /** Core-milliseconds by how the attempt ended. */
  readonly coreMs: Record<Kind, number> = emptyKinds()
  /** Runtimes of the last attempts of completed tasks, in ms. */
  readonly tookMs: number[] = []
  /** Commands that differ in numbers only count as one. */
  readonly commands = new Map<string, { first: string; count: number }>()
  slowest: Listed[] = []
  mostTried: Listed[] = []
  tasks = 0
  triedAgain = 0
  readonly #options: TallyOptions
  readonly #nodeIndex = new Map<string, number>()

  constructor(options: TallyOptions) {
    this.#options = options
    this.nodes = [...options.nodes]
    for (const [at, { id }] of this.nodes.entries()) this.#nodeIndex.set(id, at)
  }

  add(task: TaskView): void {
    const command = commandOf(task)
    const { startTime, endTime, result, exitCode, failureInfo } = task.executionInfo
    this.tasks += 1
    this.#count(task)
    this.#addCommand(command)
    const cores = this.#coresOf(task)
    for (const attempt of task.attempts) this.#addAttempt(task, attempt, cores)
    const until = endTime ?? (task.state === 'running' ? this.#options.now : undefined)
    const tookMs = startTime === undefined || until === undefined ? undefined : Math.max(0, until - startTime)
    const listed: Listed = {
      id: task.id,
      command,
      machine: task.nodeInfo?.machineName ?? '',
      tookMs: tookMs ?? 0,
      attempts: task.attempts,
      result: result ?? task.state,
    }
    if (tookMs !== undefined) {
      if (task.state === 'completed') this.tookMs.push(tookMs)
      this.slowest = top(this.slowest, listed, (one) => one.tookMs)
    }
    if (task.attempts.length > 1) {
      this.triedAgain += 1
      this.mostTried = top(this.mostTried, listed, (one) => one.attempts.length)
    }
    if (result === 'failure') {
      const isNew = this.failures.add({ taskId: task.id, exitCode, failureInfo, stderrTail: task.stderrTail })
      if (isNew) this.failedCommands.set(task.id, command)
    }
  }

  #count({ state, executionInfo }: TaskView): void {
    if (state === 'completed') this.states[executionInfo.result === 'success' ? 'succeeded' : 'failed'] += 1
    else this.states[state === 'running' ? 'running' : 'waiting'] += 1
  }

  #addCommand(command: string): void {
    const shape = command.replaceAll(/\d+/g, '#')
    const known = this.commands.get(shape)
    if (known !== undefined) known.count += 1
    else if (this.commands.size < mostShapes) this.commands.set(shape, { first: command, count: 1 })
  }

  #coresOf(task: TaskView): number {
    const one = task.resources?.cores ?? task.requiredSlots * this.#options.coresPerSlot
    return one * (task.multiInstanceSettings?.numberOfInstances ?? 1)
  }

  #addAttempt(task: TaskView, attempt: AttemptRecord, cores: number): void {
    const { startTime, end } = attempt
    if (startTime === undefined) return
    const kind: Kind = end ?? 'running'
    const until = Math.max(startTime, attempt.endTime ?? this.#options.now)
    const { attempts } = this
    attempts.start.push(startTime)
    attempts.end.push(until)
    attempts.kind.push(kinds.indexOf(kind))
    attempts.node.push(this.#nodeOf(attempt, task))
    attempts.slots.push(task.requiredSlots)
    if (attempts.names.length < mostBars) attempts.names.push(attempt.epoch > 1 ? `${task.id} (attempt ${attempt.epoch})` : task.id)
    this.ends[kind] += 1
    this.coreMs[kind] += (until - startTime) * cores
  }

  #nodeOf({ nodeId, machine }: AttemptRecord, task: TaskView): number {
    const known = this.#nodeIndex.get(nodeId)
    if (known !== undefined) return known
    const name = this.#options.machines.get(machine) ?? (task.nodeInfo?.machine === machine ? task.nodeInfo.machineName : machine.slice(-8))
    this.nodes.push({ id: nodeId, machine: name, slots: undefined })
    this.#nodeIndex.set(nodeId, this.nodes.length - 1)
    return this.nodes.length - 1
  }
}

/** As its author wrote it: of a string for the shell the string itself. */
function commandOf({ thread, commandLine }: TaskView): string {
  if (thread !== undefined) return showThreadTask(thread)
  if (!commandLine.startsWith('sh -c ')) return commandLine
  const [, , script, ...more] = splitCommandLine(commandLine)
  return script === undefined || more.length > 0 ? commandLine : script
}

function emptyKinds(): Record<Kind, number> {
  return Object.fromEntries(kinds.map((kind) => [kind, 0])) as Record<Kind, number>
}

/** The list with one more, the greatest first, no longer than it may be. */
function top(list: Listed[], one: Listed, by: (one: Listed) => number): Listed[] {
  const last = list.at(-1)
  if (list.length >= mostListed && last !== undefined && by(one) <= by(last)) return list
  return [...list, one].sort((a, b) => by(b) - by(a)).slice(0, mostListed)
}

/** The value below which a share of the sorted numbers lies. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0
}
