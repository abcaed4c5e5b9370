/** `--inputs` and `--with`: which local files a run takes, and where its tasks see them. */
import { stat } from 'node:fs/promises'
import { basename, relative, resolve, sep } from 'node:path'
import { glob, isDynamicPattern } from 'tinyglobby'
import { MeshError } from '../../../protocols/errors.ts'
import { type LocalFile, listLocal } from '../../mesh/files.ts'

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

/** The files of `--inputs`: each a file, or a glob. In the order given, globs sorted; a file named twice is taken once. */
export async function findInputs(patterns: readonly string[], cwd: string, shared: readonly StagedShared[]): Promise<StagedInput[]> {
  const sources = new Set<string>()
  for (const pattern of patterns) for (const source of await expandPattern(pattern, cwd)) sources.add(source)
  const inputs: StagedInput[] = []
  for (const source of sources) {
    const { size } = await stat(source)
    const holder = shared.find((one) => source === one.source || (one.isDirectory && source.startsWith(`${one.source}${sep}`)))
    const path = holder === undefined ? stagedPath(source, cwd) : `${holder.path}${source.slice(holder.source.length).replaceAll(sep, '/')}`
    inputs.push({ path, source, size, isShared: holder !== undefined })
  }
  return inputs
}

async function expandPattern(pattern: string, cwd: string): Promise<string[]> {
  const literal = resolve(cwd, pattern)
  const found = await stat(literal).catch(() => undefined)
  if (found?.isFile()) return [literal]
  if (found?.isDirectory())
    throw new MeshError(
      'InvalidPropertyValue',
      `--inputs ${pattern} is a directory. For the files in it write '${pattern.replace(/\/$/, '')}/*'; for one shared by all tasks, --with.`,
    )
  const matches = isDynamicPattern(pattern) ? await glob([pattern], { cwd, absolute: true, onlyFiles: true, expandDirectories: false }) : []
  if (matches.length === 0) throw new MeshError('InvalidPropertyValue', `--inputs ${pattern} matches no file below ${cwd}.`)
  return matches.map((path) => resolve(path)).sort()
}

/** The directories and files of `--with`. Two with the same place in the task are refused. */
export async function findShared(paths: readonly string[], cwd: string): Promise<StagedShared[]> {
  const found: StagedShared[] = []
  for (const given of paths) {
    const source = resolve(cwd, given)
    const path = stagedPath(source, cwd)
    const other = found.find((one) => one.path === path || one.path.startsWith(`${path}/`) || path.startsWith(`${one.path}/`))
    if (other !== undefined)
      throw new MeshError('InvalidPropertyValue', `--with ${given} and ${other.source} would share the place ${path} in the task.`)
    found.push({ path, source, ...(await listLocal(source)) })
  }
  return found
}
