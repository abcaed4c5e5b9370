/** `--inputs` and `--with`: which local files a run takes, and where its tasks see them. */
import { stat } from 'node:fs/promises'
import { basename, relative, resolve, sep } from 'node:path'
import { glob, isDynamicPattern } from 'tinyglobby'
import { MeshError } from '../../../protocols/errors.ts'
import { type LocalFile, listLocal } from '../../mesh/files.ts'
import { expand, parseWordTemplate, type TemplateValues } from '../template.ts'
import type { Table } from './table.ts'

export interface StagedInput {
  /** Path as the task sees it, relative to its working directory. */
  path: string
  source: string
  size: number
  /** It lies in a directory given by --with, which brings it along. */
  isShared: boolean
}

export interface StagedShared {
  path: string
  source: string
  isDirectory: boolean
  files: LocalFile[]
}

/** A path below the current directory keeps its relative path; one from elsewhere its last name. */
export function stagedPath(source: string, cwd: string): string {
  const path = relative(cwd, source)
  const isBelow = path !== '' && path !== '..' && !path.startsWith(`..${sep}`) && !path.startsWith('/')
  return isBelow ? path.replaceAll(sep, '/') : basename(source)
}

function staged(source: string, size: number, cwd: string, shared: readonly StagedShared[]): StagedInput {
  const holder = shared.find((one) => source === one.source || (one.isDirectory && source.startsWith(`${one.source}${sep}`)))
  const path = holder === undefined ? stagedPath(source, cwd) : `${holder.path}${source.slice(holder.source.length).replaceAll(sep, '/')}`
  return { path, source, size, isShared: holder !== undefined }
}

/**
 * The files of `--inputs`: each a file, a glob, or `-` for the list that standard input holds. In the order given, globs
 * sorted; a file named twice is taken once.
 */
export async function findInputs(
  patterns: readonly string[],
  list: readonly string[] | undefined,
  cwd: string,
  shared: readonly StagedShared[],
): Promise<StagedInput[]> {
  const sources = new Map<string, number>()
  for (const pattern of patterns) {
    if (pattern === '-') for (const [at, name] of list!.entries()) await addListed(name, at + 1, cwd, sources)
    else for (const source of await expandPattern(pattern, cwd)) sources.set(source, (await stat(source)).size)
  }
  return [...sources].map(([source, size]) => staged(source, size, cwd, shared))
}

async function addListed(name: string, place: number, cwd: string, sources: Map<string, number>): Promise<void> {
  const source = resolve(cwd, name)
  const found = await stat(source).catch(() => undefined)
  if (!found?.isFile())
    throw usage(`--inputs -: ${name}, number ${place} on standard input, ${found === undefined ? 'is not there' : 'is no file'}.`)
  sources.set(source, found.size)
}

/** The names that standard input holds: one a line, or with NUL between them. */
export function namesOf(text: string, isNull: boolean): string[] {
  const names = (isNull ? text.split('\0') : text.split(/\r?\n/)).filter((name) => name !== '')
  if (names.length === 0) throw usage('--inputs -: standard input named no file.')
  if (!isNull && text.includes('\0')) throw usage('--inputs -: standard input holds NUL bytes. If they separate the names, add --null.')
  return names
}

async function expandPattern(pattern: string, cwd: string): Promise<string[]> {
  const literal = resolve(cwd, pattern)
  const found = await stat(literal).catch(() => undefined)
  if (found?.isFile()) return [literal]
  if (found?.isDirectory())
    throw usage(
      `--inputs ${pattern} is a directory. For the files in it write '${pattern.replace(/\/$/, '')}/*'; for one shared by all tasks, --with.`,
    )
  const matches = isDynamicPattern(pattern) ? await glob([pattern], { cwd, absolute: true, onlyFiles: true, expandDirectories: false }) : []
  if (matches.length === 0) throw usage(`--inputs ${pattern} matches no file below ${cwd}.`)
  return matches.map((path) => resolve(path)).sort()
}

/** Files that the rows of a table name. */
export interface RowFiles {
  /** For each row, in the order of --inputs; undefined where its cell is empty. */
  staged: (StagedInput | undefined)[][]
  /** Columns that name a file by themselves, `--inputs '{r1}'`, and which of the row's files it is. */
  paths: Map<string, number>
}

/** The files of `--inputs` with `--table`: each a path with columns in it, relative to the current directory. */
export async function findRowFiles(
  patterns: readonly string[],
  table: Table,
  name: string,
  cwd: string,
  shared: readonly StagedShared[],
): Promise<RowFiles> {
  const columns = new Set(table.columns)
  const templates = patterns.map((pattern) => parseWordTemplate(pattern, columns))
  for (const [at, { names }] of templates.entries()) {
    const other = [...names].find((one) => one !== 'index')
    if (other !== undefined) throw usage(`--inputs ${patterns[at]}: {${other}} is no column of ${name}.`)
  }
  const paths = new Map<string, number>()
  for (const [at, { pieces }] of templates.entries()) {
    const [piece] = pieces
    if (pieces.length === 1 && typeof piece === 'object' && piece.isColumn && !paths.has(piece.name)) paths.set(piece.name, at)
  }
  // Rows often name the same file.
  const sizes = new Map<string, number | undefined>()
  const missing: string[] = []
  const found: (StagedInput | undefined)[][] = []
  for (const [at, { cells, line }] of table.rows.entries()) {
    const values: TemplateValues = { index: at, cell: (column) => cells[table.columns.indexOf(column)]! }
    const files: (StagedInput | undefined)[] = []
    for (const template of templates) {
      const text = expand(template, values)
      // A sample without a second file of reads leaves its cell empty.
      if (text === '') {
        files.push(undefined)
        continue
      }
      const source = resolve(cwd, text)
      if (!sizes.has(source)) sizes.set(source, await fileSize(source))
      const size = sizes.get(source)
      if (size === undefined) missing.push(`line ${line} (task ${at}) names ${text}`)
      else files.push(staged(source, size, cwd, shared))
      const last = files.at(-1)
      const other = files.find((file) => file !== undefined && file.path === last?.path && file.source !== source)
      if (other !== undefined)
        throw usage(`${name}, line ${line}: ${other.source} and ${source} would share the place ${other.path} in the task.`)
    }
    found.push(files)
  }
  if (missing.length > 0) {
    const more = missing.length > 5 ? `; and ${missing.length - 5} more` : ''
    throw usage(
      `--inputs: of the files that ${name} names, ${missing.length === 1 ? 'one is' : `${missing.length} are`} not there, looked for from ${cwd}: ${missing.slice(0, 5).join('; ')}${more}.`,
    )
  }
  return { staged: found, paths }
}

async function fileSize(source: string): Promise<number | undefined> {
  const found = await stat(source).catch(() => undefined)
  return found?.isFile() ? found.size : undefined
}

/** The directories and files of `--with`. Two with the same place in the task are refused. */
export async function findShared(paths: readonly string[], cwd: string): Promise<StagedShared[]> {
  const found: StagedShared[] = []
  for (const given of paths) {
    const source = resolve(cwd, given)
    const path = stagedPath(source, cwd)
    const other = found.find((one) => one.path === path || one.path.startsWith(`${path}/`) || path.startsWith(`${one.path}/`))
    if (other !== undefined) throw usage(`--with ${given} and ${other.source} would share the place ${path} in the task.`)
    found.push({ path, source, ...(await listLocal(source)) })
  }
  return found
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
