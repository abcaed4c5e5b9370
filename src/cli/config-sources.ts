/** Settings from variables and configuration files (TOML 1.0), and where each of them stands. */
import { readFile } from 'node:fs/promises'
import { MeshError } from '../../protocols/errors.ts'
import type { ConfigFile } from '../config.ts'
import { allNames, secretNames, settable, variableOf } from './config-names.ts'

export interface Setting {
  /** Text of a variable, or a value of a file. */
  value: unknown
  /** Said in errors and lists: `BATCHMESH_PORT`, or `port in /etc/batchmesh/config.toml, line 3`. */
  place: string
  source: 'variable' | 'user file' | 'system file'
  /** The file that it stands in. */
  file?: string
}

type Table = { [key: string]: unknown }

/** One file that was read and whose keys are all known. */
interface ReadFile {
  file: ConfigFile
  text: string
  root: Table
}

export class Sources {
  readonly #env: Record<string, string | undefined>
  readonly #files: readonly ReadFile[]

  constructor(env: Record<string, string | undefined>, files: readonly ReadFile[]) {
    this.#env = env
    this.#files = files
  }

  /** What is set for an option of a command (`job create`, or empty for those of all): the strongest source wins. */
  find(command: string, name: string): Setting | undefined {
    const variable = variableOf(name)
    const text = this.#env[variable]
    if (text !== undefined && text !== '') return { value: text, place: variable, source: 'variable' }
    for (const { file, text, root } of this.#files) {
      for (const path of command === '' ? [[]] : [command.split(' '), []]) {
        const value = tableAt(root, path)?.[name]
        if (value !== undefined)
          return { value, place: placeOf(file.path, text, path, name), source: `${file.scope} file`, file: file.path }
      }
    }
    return undefined
  }

  /** Whether a secret stands in its variable. */
  hasSecret(name: string): boolean {
    return (this.#env[variableOf(name)] ?? '') !== ''
  }
}

/** Reads the files that are there. Throws InvalidPropertyValue, with file and line, for what they must not hold. */
export async function readSources(env: Record<string, string | undefined>, files: readonly ConfigFile[]): Promise<Sources> {
  const read: ReadFile[] = []
  for (const file of files) {
    const text = await readFile(file.path, 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (!file.isNamed && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) return undefined
      throw new MeshError('InvalidPropertyValue', `The configuration file ${file.path} cannot be read: ${error.message}`, { cause: error })
    })
    if (text === undefined) continue
    const root = await parseToml(file.path, text)
    checkKeys(root, [], { path: file.path, text })
    read.push({ file, text, root })
  }
  return new Sources(env, read)
}

async function parseToml(path: string, text: string): Promise<Table> {
  const { parse, TomlError } = await import('smol-toml')
  try {
    return parse(text)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const why = error.message.split('\n')[0]!.replace('Invalid TOML document: ', '')
    throw new MeshError('InvalidPropertyValue', `${path}, line ${error.line}: this is not TOML (${why}).`, { cause: error })
  }
}

/** Tables are commands, in as many steps as the command has words; everything else must be an option of that command. */
function checkKeys(table: Table, path: readonly string[], where: { path: string; text: string }): void {
  const command = path.join(' ')
  const names = command === '' ? allNames : (settable[command] ?? [])
  for (const [key, value] of Object.entries(table)) {
    if (names.includes(key)) continue
    const words = [...path, key]
    const isCommand = Object.keys(settable).some((name) => name === words.join(' ') || name.startsWith(`${words.join(' ')} `))
    if (isCommand && isTable(value)) {
      checkKeys(value, words, where)
      continue
    }
    const place = placeOf(where.path, where.text, path, key)
    throw new MeshError('InvalidPropertyValue', `${place}: ${problemOf(key, path, names)}`)
  }
}

function problemOf(key: string, path: readonly string[], names: readonly string[]): string {
  if (secretNames.includes(key))
    return `a secret is not kept in a configuration file. Give it as --${key} FILE, or in the variable ${variableOf(key)}.`
  const next = [
    ...new Set(
      Object.keys(settable)
        .filter((name) => name !== '' && (path.length === 0 || name.startsWith(`${path.join(' ')} `)))
        .map((name) => `[${name.replace(' ', '.')}]`),
    ),
  ]
  const options = names.length === 0 ? '' : ` Known here: ${names.join(', ')}.`
  const tables = next.length === 0 ? '' : ` Tables: ${next.join(', ')}.`
  return `there is no such setting${path.length === 0 ? '' : ` in [${path.join('.')}]`}.${options}${tables}`
}

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date)
}

function tableAt(root: Table, path: readonly string[]): Table | undefined {
  let table: unknown = root
  for (const word of path) table = isTable(table) ? table[word] : undefined
  return isTable(table) ? table : undefined
}

/** `port in /etc/batchmesh/config.toml, line 3`; without the line where the key is written in an unusual way. */
function placeOf(file: string, text: string, path: readonly string[], key: string): string {
  const bare = (written: string) => written.replaceAll(/["'\s]/g, '')
  const name = [...path, key].join('.')
  let table = ''
  for (const [at, line] of text.split('\n').entries()) {
    const header = /^\s*\[\[?([^\]]+)\]/.exec(line)
    if (header !== null) table = bare(header[1]!)
    const written = header === null ? /^\s*([\w."'\s-]+?)\s*=/.exec(line)?.[1] : ''
    if (written === undefined) continue
    const full = [table, bare(written)].filter((part) => part !== '').join('.')
    if (full === name || full.startsWith(`${name}.`)) return `${name} in ${file}, line ${at + 1}`
  }
  return `${name} in ${file}`
}
