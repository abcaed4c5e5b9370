/** Which local files a run takes, and where its tasks see them. */
import { stat } from 'node:fs/promises'
import { basename, relative, resolve, sep } from 'node:path'
import { glob, isDynamicPattern } from 'tinyglobby'
import { MeshError } from '../../../protocols/errors.ts'
import type { LocalFile } from '../../mesh/files.ts'
import { listLocal } from '../../mesh/files.ts'
import type { BlobInput, RunOptions } from './options.ts'

/** An input, with the path at which its task sees it. */
export type RunInput = { path: string; given: string } & ({ source: string; size: number } | { blob: string })

export interface Shared {
  path: string
  source: string
  isDirectory: boolean
  files: LocalFile[]
}

/** In the order given; what a pattern matches is sorted. Rejects with InvalidPropertyValue for what matches no file. */
export async function findInputs(inputs: NonNullable<RunOptions['inputs']>, cwd: string): Promise<RunInput[]> {
  const found = new Map<string, RunInput>()
  for (const one of typeof inputs === 'string' ? [inputs] : inputs) {
    for (const input of typeof one === 'string' ? await localInputs(one, cwd) : [blobInput(one)]) {
      found.set('source' in input ? input.source : `${input.blob} ${input.path}`, input)
    }
  }
  return [...found.values()]
}

function blobInput({ blob, path = blob }: BlobInput): RunInput {
  return { path, given: blob, blob }
}

async function localInputs(pattern: string, cwd: string): Promise<RunInput[]> {
  const literal = resolve(cwd, pattern)
  const found = await stat(literal).catch(() => undefined)
  if (found?.isDirectory())
    throw new MeshError(
      'InvalidPropertyValue',
      `The input ${pattern} is a directory. For the files in it write '${pattern.replace(/\/$/, '')}/*'; for one that all tasks share use "with".`,
    )
  if (found !== undefined) return [{ path: stagedPath(literal, cwd), given: pattern, source: literal, size: found.size }]
  const matches = isDynamicPattern(pattern) ? await glob([pattern], { cwd, absolute: true, onlyFiles: true, expandDirectories: false }) : []
  if (matches.length === 0) throw new MeshError('InvalidPropertyValue', `The input ${pattern} matches no file below ${cwd}.`)
  return Promise.all(
    matches
      .map((match) => resolve(match))
      .sort()
      .map(async (source) => ({
        path: stagedPath(source, cwd),
        given: relative(cwd, source),
        source,
        size: (await stat(source)).size,
      })),
  )
}

/** What every task needs. Two with the same place in the task are refused. */
export async function findShared(paths: readonly string[], cwd: string): Promise<Shared[]> {
  const found: Shared[] = []
  for (const given of paths) {
    const source = resolve(cwd, given)
    const path = stagedPath(source, cwd)
    const other = found.find((one) => one.path === path || one.path.startsWith(`${path}/`) || path.startsWith(`${one.path}/`))
    if (other !== undefined)
      throw new MeshError('InvalidPropertyValue', `${given} and ${other.source} would share the place ${path} in the task.`)
    found.push({ path, source, ...(await listLocal(source)) })
  }
  return found
}

/** A path below the directory keeps its relative path; one from elsewhere its last name. */
function stagedPath(source: string, cwd: string): string {
  const path = relative(cwd, source)
  const isBelow = path !== '' && path !== '..' && !path.startsWith(`..${sep}`) && !path.startsWith('/')
  return isBelow ? path.replaceAll(sep, '/') : basename(source)
}

/** The numbers of an array. Throws InvalidPropertyValue. */
export function* indexesOf(array: NonNullable<RunOptions['array']>): Generator<number> {
  if (typeof array === 'number') {
    if (!Number.isSafeInteger(array) || array < 0) throw refusal(`array: ${array} is not a number of tasks.`)
    for (let index = 0; index < array; index += 1) yield index
  } else if (typeof array === 'string') {
    for (const part of array.split(',')) yield* range(part.trim(), array)
  } else {
    for (const index of array) {
      if (!Number.isSafeInteger(index) || index < 0) throw refusal(`array: ${index} is not a whole number of 0 or more.`)
      yield index
    }
  }
}

function* range(part: string, array: string): Generator<number> {
  const found = /^(\d{1,15})(?:-(\d{1,15})(?::(\d{1,15}))?)?$/.exec(part)
  if (found === null) throw refusal(`array: '${array}' is not understood at "${part}". Write '0-999', '0-999:2' or '1,5,9'.`)
  const start = Number(found[1])
  const end = found[2] === undefined ? start : Number(found[2])
  const step = found[3] === undefined ? 1 : Number(found[3])
  if (step === 0 || end < start) throw refusal(`array: "${part}" has no numbers.`)
  for (let index = start; index <= end; index += step) yield index
}

function refusal(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
