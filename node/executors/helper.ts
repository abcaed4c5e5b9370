/** One running helper: a shell in its isolation, fed through one pipe and heard through another. */
import { Socket } from 'node:net'
import { childrenOf, descendantsOf, sendSignal } from './proc.ts'
import type { LanePipes } from './spawner.ts'

/**
 * How a task ended: its status, `io` when its output files could not be made, `ended` when it took its helper with it,
 * `gone` when the lane ended from outside.
 */
export type Report = number | 'io' | 'ended' | 'gone'

/** A helper that says nothing for so long while starting is given up. Starts take 10-20 ms; a machine that swaps needs many times that. */
const startTimeoutMs = 20_000

export class Helper {
  /** Resolves when the last process of the lane is gone. */
  readonly gone: Promise<void>
  readonly #commands: Socket
  readonly #reports: Socket
  readonly #contained: boolean
  #waiting: ((line: string | undefined) => void) | undefined
  #isGone = false
  #rest = ''
  /** Pid 1 of the lane's namespace as the node sees it; the shell around the helper where there is no namespace. */
  #root: number
  /** The shell that reads tasks, as the node sees it. */
  #shell: number
  #lastId = 0
  #isDash = false

  private constructor(pipes: LanePipes, contained: boolean) {
    this.#contained = contained
    this.#root = pipes.pid
    this.#shell = pipes.pid
    this.#commands = new Socket({ fd: pipes.commandFd, readable: false, writable: true })
    this.#reports = new Socket({ fd: pipes.reportFd, readable: true, writable: false })
    this.gone = new Promise((resolve) => {
      const onEnd = () => {
        if (this.#isGone) return
        this.#isGone = true
        this.#commands.destroy()
        this.#reports.destroy()
        this.#answer(undefined)
        resolve()
      }
      this.#reports.on('end', onEnd)
      this.#reports.on('error', onEnd)
      // The helper went away: the end of the reports tells.
      this.#commands.on('error', () => {})
    })
    this.#reports.on('data', (data: Buffer) => {
      this.#rest += data.toString('latin1')
      for (let at = this.#rest.indexOf('\n'); at >= 0; at = this.#rest.indexOf('\n')) {
        const line = this.#rest.slice(0, at)
        this.#rest = this.#rest.slice(at + 1)
        this.#answer(line)
      }
    })
  }

  /** Takes over a started helper and hands it its prologue. Rejects when it ends before it is ready. */
  static async open(pipes: LanePipes, prologue: string, contained: boolean): Promise<Helper> {
    const helper = new Helper(pipes, contained)
    const timer = setTimeout(() => helper.kill(), startTimeoutMs)
    try {
      const line = await helper.#ask(prologue)
      if (line === undefined || !line.startsWith('ready ')) throw new Error(`The task helper did not start (${line ?? 'it ended'}).`)
      helper.#isDash = line.endsWith('/dash')
      if (contained) helper.#root = childrenOf(pipes.pid)[0] ?? pipes.pid
      helper.#shell = childrenOf(helper.#root)[0] ?? pipes.pid
      return helper
    } catch (error) {
      helper.kill()
      await helper.gone
      throw error
    } finally {
      clearTimeout(timer)
      pipes.unlink()
    }
  }

  /** The shell that starts tasks, as the node sees it. */
  get pid(): number {
    return this.#shell
  }

  get isGone(): boolean {
    return this.#isGone
  }

  /** Whether its shell is dash. */
  get isDash(): boolean {
    return this.#isDash
  }

  /** Number for the next task's script. */
  nextId(): number {
    this.#lastId += 1
    return this.#lastId
  }

  /** Executes a task's script (script.ts) to its report. One at a time. */
  async run(id: number, script: string): Promise<Report> {
    let end: Report = 'gone'
    for (let line = await this.#ask(script); line !== undefined; line = await this.#ask()) {
      const [reported, status] = line.split(' ')
      if (Number(reported) === id) return status === 'io' ? 'io' : Number(status)
      // The last of the lane's processes is still to go.
      if (reported === 'ended') end = 'ended'
    }
    return end
  }

  /** Processes of the running task; none once it has ended. */
  taskProcesses(): number[] {
    return descendantsOf(this.#root).filter((pid) => pid !== this.#shell)
  }

  /** Ends the lane and all that runs on it. */
  kill(): void {
    // While the reports are open the outermost process lives, so these ids are still its own and its child's.
    if (this.#isGone) return
    sendSignal(this.#root, 'SIGKILL')
    if (!this.#contained) sendSignal(this.#shell, 'SIGKILL')
  }

  #ask(text = ''): Promise<string | undefined> {
    if (this.#isGone) return Promise.resolve(undefined)
    return new Promise((resolve) => {
      this.#waiting = resolve
      if (text !== '') this.#commands.write(text)
    })
  }

  #answer(line: string | undefined): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.(line)
  }
}
