/** A member of a gang of command lines, as the node sees it: started on its lane, told what to run, and watched to its end. */
import { closeSync, constants, fstatSync, openSync, unlinkSync } from 'node:fs'
import { open, unlink } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { systemPath } from '../environment.ts'
import { partEnvironment, programWords } from '../executors/script.ts'
import type { Ended, Lane, MemoryLimit, TaskPaths } from '../ports.ts'
import { Beneath } from '../staging/beneath.ts'
import {
  type Answer,
  type LaunchText,
  launchScript,
  maxAnswerBytes,
  memberCommand,
  type Order,
  orderLine,
  readAnswer,
} from './member-script.ts'
import type { LaunchRequest } from './membership.ts'

/** Programs that one member runs at once beside its own: each is a process of the node's shell, and a line of its bookkeeping. */
export const maxLaunches = 256

export interface ProgramSetup {
  lane: Lane
  /** A directory of the member's own (TaskDirectories.makeOwn), beside that of the task. */
  dir: string
  paths: TaskPaths
  /** Unlike that of any other member that is or was on this machine. */
  mark: string
  /** A path where programs find the task directory, the same for all members; absent where the machine cannot have one. */
  sharedLink?: string | undefined
  coordination: readonly string[] | undefined
  command: readonly string[]
  env: Readonly<Record<string, string>>
  /** Of the coordination command; the command line's own are in `paths`. */
  stdoutPath: string
  stderrPath: string
  memory?: MemoryLimit | undefined
}

interface Launch {
  pid?: number
  isKilled: boolean
  settle: (end: number | Error) => void
}

export class MemberProgram {
  /** How the member's whole run ended. Rejects if the lane broke. */
  readonly ended: Promise<Ended>
  /** Its coordination command has ended well; never, when it does not. */
  readonly ready: Promise<void>
  /** Aborted when nothing of it runs any more. */
  readonly gone: AbortSignal
  readonly #setup: ProgramSetup
  readonly #gone = new AbortController()
  readonly #ready = Promise.withResolvers<void>()
  readonly #orders: Socket
  readonly #launches = new Map<number, Launch>()
  #last = 0
  #rest = ''

  private constructor(setup: ProgramSetup, signal: AbortSignal, onStart: (startTime: number) => void) {
    this.#setup = setup
    const pipes = { in: join(setup.dir, 'orders'), out: join(setup.dir, 'answers') }
    // Read-write: opening never waits for the program, and writing never fails because it is late.
    const ordersFd = openPipe(pipes.in, constants.O_RDWR)
    let answersFd: number
    try {
      answersFd = openPipe(pipes.out, constants.O_RDONLY)
    } catch (error) {
      closeSync(ordersFd)
      throw error
    }
    this.#orders = new Socket({ fd: ordersFd, readable: false, writable: true })
    const answers = new Socket({ fd: answersFd, readable: true, writable: false })
    answers.on('data', (data: Buffer) => this.#heard(data.toString('latin1')))
    // The end of the run is what tells.
    for (const socket of [this.#orders, answers]) socket.on('error', () => undefined)
    this.ready = this.#ready.promise
    this.gone = this.#gone.signal
    const { plain, odd } = partEnvironment(Object.entries(setup.env))
    const { lane, dir, paths, mark, sharedLink, coordination, command, stdoutPath, stderrPath, memory } = setup
    const argv = memberCommand({
      dir,
      mark,
      link: sharedLink === undefined ? undefined : { path: sharedLink, to: paths.taskDir },
      coordination: coordination === undefined ? [] : programWords(coordination, odd),
      command: programWords(command, odd),
      stdoutPath: paths.stdout,
      stderrPath: paths.stderr,
      systemPath,
    })
    const start = { argv, env: Object.fromEntries(plain), cwd: paths.wd, stdoutPath, stderrPath, memory, pipes }
    const started = (startTime: number) => onStart(startTime)
    this.ended = lane.run(start, signal, started).finally(() => {
      this.#gone.abort(new Error('The member of the gang has ended.'))
      this.#orders.destroy()
      answers.destroy()
      for (const launch of this.#launches.values()) launch.settle(new Error('The member of the gang has ended.'))
      for (const pipe of [pipes.in, pipes.out]) unlinkIfThere(pipe)
    })
    this.ended.catch(() => undefined)
  }

  /** Starts the member; its coordination command, if it has one, begins at once. Rejects if the lane broke. */
  static async start(setup: ProgramSetup, signal: AbortSignal, onStart: (startTime: number) => void): Promise<MemberProgram> {
    const { lane, dir } = setup
    // By the lane's user: the node could not give it a pipe.
    const { exitCode } = await lane.run(
      {
        argv: ['mkfifo', '-m', '600', 'orders', 'answers'],
        env: { PATH: systemPath },
        cwd: dir,
        stdoutPath: join(dir, 'stdout.txt'),
        stderrPath: join(dir, 'stderr.txt'),
      },
      signal,
    )
    signal.throwIfAborted()
    if (exitCode !== 0) throw new Error(`The pipes of a member of a gang could not be made in ${dir} (exit code ${exitCode}).`)
    return new MemberProgram(setup, signal, onStart)
  }

  /** Starts the task's own command line, whose exit code is then that of the whole run. Once, after {@link ready}. */
  go(): void {
    this.#tell('go')
  }

  /** As Membership.launch. `env` stands on top of the member's own. */
  async launch({ text, env, stdoutPath, stderrPath }: LaunchRequest, signal: AbortSignal): Promise<number> {
    signal.throwIfAborted()
    this.gone.throwIfAborted()
    if (this.#launches.size >= maxLaunches) throw new Error(`A member of a gang runs at most ${maxLaunches} launched programs at once.`)
    this.#last += 1
    const id = this.#last
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    // The member may end while the text is written.
    promise.catch(() => undefined)
    const launch: Launch = { isKilled: false, settle: (end) => (typeof end === 'number' ? resolve(end) : reject(end)) }
    this.#launches.set(id, launch)
    const onAbort = () => {
      launch.isKilled = true
      this.#kill(id, launch)
    }
    try {
      await this.#write(`${id}.sh`, { text, env, cwd: this.#setup.paths.wd, stdoutPath, stderrPath })
      this.gone.throwIfAborted()
      signal.throwIfAborted()
      signal.addEventListener('abort', onAbort, { once: true })
      this.#tell({ launch: id })
      return await promise
    } finally {
      signal.removeEventListener('abort', onAbort)
      this.#launches.delete(id)
      await unlink(join(this.#setup.dir, `${id}.sh`)).catch(() => undefined)
    }
  }

  /** S1: the directory belongs to the task's user, who may have put anything there under any name. */
  async #write(name: string, launch: LaunchText): Promise<void> {
    const script = launchScript(launch)
    const directory = await Beneath.open(this.#setup.dir)
    try {
      const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW
      const file = await open(directory.at(name), flags, 0o644)
      try {
        await file.writeFile(script)
        await file.chmod(0o644)
      } finally {
        await file.close()
      }
    } finally {
      await directory.close()
    }
  }

  #kill(id: number, { pid, isKilled }: Launch): void {
    if (isKilled && pid !== undefined) this.#tell({ kill: id, pid })
  }

  #tell(order: Order): void {
    if (!this.gone.aborted) this.#orders.write(orderLine(order))
  }

  #heard(data: string): void {
    this.#rest += data
    for (let at = this.#rest.indexOf('\n'); at >= 0; at = this.#rest.indexOf('\n')) {
      const answer = readAnswer(this.#rest.slice(0, at))
      this.#rest = this.#rest.slice(at + 1)
      if (answer !== undefined) this.#answered(answer)
    }
    // No answer is so long: a program of the task has found the pipe.
    if (this.#rest.length > maxAnswerBytes) this.#rest = ''
  }

  #answered(answer: Answer): void {
    if ('ready' in answer) return this.#ready.resolve()
    if ('started' in answer) {
      const launch = this.#launches.get(answer.started)
      if (launch === undefined || launch.pid !== undefined) return
      launch.pid = answer.pid
      this.#kill(answer.started, launch)
    } else if ('killed' in answer) this.#launches.get(answer.killed)?.settle(killedExitCode)
    else {
      const launch = this.#launches.get(answer.ended)
      // What it started may still be there: the kill says when it is not.
      if (launch?.isKilled === false) launch.settle(answer.exitCode)
    }
  }
}

/** What a program has that was ended by SIGKILL. */
const killedExitCode = 128 + 9

function openPipe(path: string, flags: number): number {
  const fd = openSync(path, flags | constants.O_NONBLOCK | constants.O_NOFOLLOW)
  if (fstatSync(fd).isFIFO()) return fd
  closeSync(fd)
  throw new Error(`${path} is no pipe.`)
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // It goes with its directory.
  }
}
