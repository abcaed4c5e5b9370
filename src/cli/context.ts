/** What every command is given: the mesh when it asks for it, its way of printing, and its words and options. */
import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import { configFiles, dataDirectory } from '../config.ts'
import type { Mesh } from '../mesh/client.ts'
import type { Configured } from './config-apply.ts'
import type { Sources } from './config-sources.ts'
import { type Column, type Fields, type Format, printFound, printList, printOne, rowOf, visible, visibleLines } from './output.ts'
import type { Query } from './query.ts'
import { RestCommands } from './rest.ts'
import type { World } from './world.ts'

export { collect } from './collect.ts'

/** Adds the command `name` of a group to the program. */
export type Register = (program: Command, context: Context, name: string) => void

interface GlobalOptions {
  data?: string
  output?: Format
  query?: string
}

export class Context {
  readonly world: World
  exitCode = 0
  format: Format = 'table'
  dataDir = ''
  #query: Query | undefined
  #configured: ReadonlyMap<string, Configured> = new Map()
  /** Commands that stand in front of another program. */
  readonly rest = new RestCommands()
  /** Whether the command line holds `--`, behind which words are taken as they are. */
  readonly hasDashes: boolean
  /** The program with these commands whole, or with all; the others are only named. */
  readonly program: (names?: readonly string[]) => Promise<Command>
  #mesh: Promise<Mesh> | undefined

  constructor(world: World, argv: readonly string[], program: (names?: readonly string[]) => Promise<Command>) {
    this.world = world
    this.program = program
    this.hasDashes = argv.includes('--')
  }

  /** The action of a command: reads the options that all share, then calls `run` with the command's own. */
  action<O extends object>(command: Command, run: (options: O, words: string[]) => Promise<number | undefined> | Promise<void>): Command {
    return command.action(async (...given: unknown[]) => {
      const self = given.at(-1) as Command
      const sources = await this.sources()
      if (sources !== undefined) {
        const { applySources } = await import('./config-apply.ts')
        this.#configured = applySources(self, sources)
      }
      const options = self.optsWithGlobals<O & GlobalOptions>()
      this.format = options.output ?? (options.query === undefined ? 'table' : 'json')
      // Before anything is done, so that a mistyped one leaves nothing done.
      if (options.query !== undefined) this.#query = (await import('./query.ts')).readQuery(options.query)
      this.dataDir = dataDirectory(options.data, this.world.env)
      this.exitCode = await this.#explaining(async () => (await run(options, self.args)) ?? 0)
    })
  }

  /** What is set elsewhere than on the command line; undefined where nothing is, which costs next to nothing to find out. */
  async sources(): Promise<Sources | undefined> {
    const { env } = this.world
    const files = configFiles(env).filter(({ path, isNamed }) => isNamed || existsSync(path))
    if (files.length === 0 && !Object.keys(env).some((name) => name.startsWith('BATCHMESH_'))) return undefined
    const { readSources } = await import('./config-sources.ts')
    return readSources(env, files)
  }

  /** The options that were given on the command line (`cli`), or the others (`elsewhere`). */
  only<O extends object>(options: O, from: 'cli' | 'elsewhere'): Partial<O> {
    const entries = Object.entries(options).filter(([name]) => this.#configured.has(name) === (from === 'elsewhere'))
    return Object.fromEntries(entries) as Partial<O>
  }

  /** A complaint about an option that nobody gave names the place where it was set. */
  async #explaining<T>(work: () => Promise<T>): Promise<T> {
    return work().catch((error: unknown) => {
      if (!(error instanceof MeshError) || error.code !== 'InvalidPropertyValue') throw error
      const about = [...this.#configured.values()].find(({ option, value }) =>
        [option.long ?? '', ...[value].flat().map(String)].some((word) => word.length > 1 && error.message.includes(word)),
      )
      throw about === undefined
        ? error
        : new MeshError(error.code, `${error.message.replace(/\.?$/, '.')} It was set by ${about.setting.place}.`, { cause: error })
    })
  }

  /** The connection to this machine's node; made once. Rejects with Unreachable, which says how to start one. */
  mesh(): Promise<Mesh> {
    this.#mesh ??= this.#connect()
    return this.#mesh
  }

  async #connect(): Promise<Mesh> {
    const { connect } = await import('../mesh.ts')
    try {
      return await connect({
        dataDir: this.dataDir,
        open: this.world.open,
        onLost: (error) => this.say(`batchmesh: ${error.message} Trying again …`),
        onBack: () => this.say('batchmesh: connected again'),
      })
    } catch (error) {
      if (!(error instanceof MeshError) || error.code !== 'Unreachable') throw error
      throw new MeshError(
        'Unreachable',
        `No Batchmesh node answers in ${this.dataDir}. Start one with "batchmesh up", or name another with --data.`,
        {
          cause: error,
        },
      )
    }
  }

  get hasQuery(): boolean {
    return this.#query !== undefined
  }

  /** Whether results are for people to read, rather than for programs or a query. */
  get isForPeople(): boolean {
    return this.format === 'table' && this.#query === undefined
  }

  list<T>(columns: readonly Column<T>[], rows: readonly T[]): Promise<void> {
    if (this.#query !== undefined) return this.#found(rows)
    return printList(this.world, this.format, columns, rows)
  }

  one(fields: Fields, view: unknown): Promise<void> {
    if (this.#query !== undefined) return this.#found(view)
    return printOne(this.world, this.format, fields, view)
  }

  /** Says what was done: to people only, so that JSON and TSV hold results alone. */
  done(sentence: string, view: Record<string, unknown>): Promise<void> {
    if (this.isForPeople) return this.world.stdout.write(`${visibleLines(sentence)}\n`)
    return this.one(
      Object.entries(view).map(([name, value]) => [name, String(value)] as const),
      view,
    )
  }

  /** One of a row of results that come one by one: as JSON an object a line. */
  async next<T>(columns: readonly Column<T>[], row: T): Promise<void> {
    const { stdout } = this.world
    if (this.format !== 'json') return this.#query === undefined ? stdout.write(rowOf(this.format, columns, row)) : this.#found(row)
    await stdout.write(`${JSON.stringify(this.#query === undefined ? row : this.#query.apply(row))}\n`)
  }

  async #found(view: unknown): Promise<void> {
    return printFound(this.world, this.format, this.#query!.apply(view))
  }

  /** A line on stderr. */
  say(line: string): void {
    void this.world.stderr.write(`${visible(line)}\n`)
  }

  async close(): Promise<void> {
    const mesh = await this.#mesh?.catch(() => undefined)
    await mesh?.close()
  }
}

/** A value that may be given by position or by an Azure option name; `what` names it in the error. */
export function given(value: string | undefined, what: string): string {
  if (value === undefined || value === '') throw new MeshError('InvalidPropertyValue', `Name the ${what}.`)
  return value
}

/** `J/T`, or J with --task-id, or --job-id and --task-id. */
export function taskRef(word: string | undefined, options: { jobId?: string; taskId?: string }): { jobId: string; taskId: string } {
  const [first, second, ...more] = word?.split('/') ?? []
  if (more.length > 0) throw new MeshError('InvalidPropertyValue', `${word} is not a task. Write JOB/TASK.`)
  const jobId = options.jobId ?? first
  const taskId = options.taskId ?? second ?? (options.jobId !== undefined ? first : undefined)
  if (!jobId || !taskId) throw new MeshError('InvalidPropertyValue', 'Name the task as JOB/TASK, or with --job-id and --task-id.')
  return { jobId, taskId }
}

/** Reads a whole number in range. */
export function integer(text: string | undefined, option: string, least: number, most = Number.MAX_SAFE_INTEGER): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
  if (!/^-?\d+$/.test(text) || number < least || number > most) {
    const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `from ${least} to ${most}`
    throw new MeshError('InvalidPropertyValue', `${option} ${text}: it is a whole number ${range}.`)
  }
  return number
}

/** Reads a number above zero. */
export function positive(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number) || number <= 0)
    throw new MeshError('InvalidPropertyValue', `${option} ${text}: it is a number above 0.`)
  return number
}

/** Reads a number of zero or more. */
export function zeroOrMore(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined
  const number = Number(text)
  if (text.trim() === '' || !Number.isFinite(number) || number < 0)
    throw new MeshError('InvalidPropertyValue', `${option} ${text}: it is a number, 0 or more.`)
  return number
}

/** Reads `k=v` pairs. */
export function pairs(texts: readonly string[] | undefined, option: string): [string, string][] {
  return (texts ?? []).map((text) => {
    const at = text.indexOf('=')
    if (at < 1) throw new MeshError('InvalidPropertyValue', `${option} ${text}: write it as name=value.`)
    return [text.slice(0, at), text.slice(at + 1)]
  })
}

/** Reads one of some words. */
export function oneOf<const W extends readonly string[]>(text: string, option: string, words: W): W[number] {
  if (!words.includes(text)) throw new MeshError('InvalidPropertyValue', `${option} ${text}: it is one of ${words.join(', ')}.`)
  return text
}
