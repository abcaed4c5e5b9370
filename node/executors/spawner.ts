/**
 * The spawner: one small shell, started once and early, that starts the lanes' helpers, so that the node's own process,
 * which may hold gigabytes, never forks again (a fork copies page tables: 11-127 ms of its main thread).
 *
 * It reads shell text on its standard input and dies with the node: by the kernel's parent-death signal where `setpriv`
 * can ask for one, else at the end of its input.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { constants, openSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { joinCommandLine, quoteWord } from '../../protocols/model/command-line.ts'

export interface LanePipes {
  /** Process id of the helper's outermost process. */
  pid: number
  /** Open for writing commands, non-blocking. */
  commandFd: number
  /** Open for reading reports, non-blocking; ends when the last process of the lane's own machinery is gone. */
  reportFd: number
  /** Unlinks the pipes' names, once both ends hold them. */
  unlink(): void
}

interface Waiting {
  resolve: (pid: number) => void
  reject: (error: Error) => void
}

/** How much of the helpers' complaints is kept for error messages. */
const keptErrorChars = 4000

export class Spawner {
  readonly ended: Promise<void>
  readonly #child: ChildProcess
  readonly #runDir: string
  readonly #waiting = new Map<number, Waiting>()
  #errors = ''
  #count = 0
  #isEnded = false

  /** `runDir` must be private to the node's user. `atEnd` is shell text to execute when the node is gone. */
  constructor(runDir: string, options: { deathSignal: boolean; atEnd?: string | undefined }) {
    this.#runDir = runDir
    const shell = ['/bin/sh', '-s']
    const words = options.deathSignal ? ['setpriv', '--pdeathsig', 'KILL', ...shell] : shell
    // A session of its own: an interrupt typed at the node's terminal is for the node, not for its tasks.
    this.#child = spawn(words[0]!, words.slice(1), { detached: true, stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' })
    this.ended = new Promise((resolve) => {
      const onEnd = (why: string) => {
        this.#isEnded = true
        for (const waiting of this.#waiting.values()) waiting.reject(new Error(`The spawner of task processes ended: ${why}`))
        this.#waiting.clear()
        resolve()
      }
      this.#child.once('error', (error) => onEnd(error.message))
      this.#child.once('exit', (code, signal) => onEnd(`${signal ?? `code ${code}`} ${this.#errors}`))
    })
    // The system would not start it: `error` says why.
    if (this.#child.pid === undefined) return
    // Writing to a spawner that died: its exit is what is reported.
    this.#child.stdin!.on('error', () => {})
    this.#child.stderr!.on('data', (data: Buffer) => {
      this.#errors = (this.#errors + data.toString()).slice(-keptErrorChars)
    })
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      const [id, pid] = line.split(' ')
      this.#waiting.get(Number(id))?.resolve(Number(pid))
    })
    // A shell ignores SIGINT and SIGQUIT in what it starts in the background, and tasks would inherit that.
    this.#child.stdin!.write(`D=;env --default-signal=INT,QUIT true 2>/dev/null&&D='env --default-signal=INT,QUIT'\n`)
    if (options.atEnd !== undefined) this.#child.stdin!.write(`trap ${quoteWord(options.atEnd)} EXIT\n`)
  }

  get isEnded(): boolean {
    return this.#isEnded
  }

  /** What the helpers last complained of, for error messages. */
  get errors(): string {
    return this.#errors.trim()
  }

  /**
   * Starts `words` in the background with its standard input and output on two new pipes. The node opens them without
   * ever blocking; the helper's open waits for the node's, under a death signal, so that none is left behind.
   */
  async start(words: readonly string[], deathSignal: boolean): Promise<LanePipes> {
    if (this.#isEnded) throw new Error(`The spawner of task processes ended: ${this.#errors}`)
    this.#count += 1
    const id = this.#count
    const command = join(this.#runDir, `${id}.c`)
    const report = join(this.#runDir, `${id}.r`)
    // A spawner that died before the death signal was asked for sends none: then another process is the parent already.
    const opened = `[ "$PPID" = "$1" ] || exit; shift; exec "$@" <${quoteWord(command)} >${quoteWord(report)}`
    const guard = joinCommandLine([...(deathSignal ? ['setpriv', '--pdeathsig', 'KILL'] : []), '/bin/sh', '-c', opened, 'sh'])
    const unlink = () => {
      for (const path of [command, report]) {
        try {
          unlinkSync(path)
        } catch {
          // Never made: the helper's start has failed and says so itself.
        }
      }
    }
    const started = new Promise<number>((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
    this.#child.stdin?.write(
      `if mkfifo -m 600 ${quoteWord(command)} ${quoteWord(report)}; then $D ${guard} $$ ${joinCommandLine(words)} & echo "${id} $!"; else echo "${id} 0"; fi\n`,
    )
    const pid = await started.finally(() => this.#waiting.delete(id))
    if (pid === 0) throw new Error(`The pipes of a task helper could not be made in ${this.#runDir}: ${this.errors}`)
    try {
      // Read-write: opening never waits, and writing never fails because the reader is late.
      const commandFd = openSync(command, constants.O_RDWR | constants.O_NONBLOCK)
      const reportFd = openSync(report, constants.O_RDONLY | constants.O_NONBLOCK)
      return { pid, commandFd, reportFd, unlink }
    } catch (error) {
      unlink()
      throw error
    }
  }

  /** Ends the spawner once what it was told is done. */
  async close(): Promise<void> {
    this.#child.stdin?.end()
    await this.ended
  }
}
