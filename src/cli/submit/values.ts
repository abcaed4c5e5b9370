/** What the options of sbatch hold (sbatch(1), version 23.11). Each throws InvalidPropertyValue in words for whoever wrote it. Pure. */
import { MeshError } from '../../../protocols/errors.ts'
import { entityIdSchema, jobIdSchema } from '../../../protocols/ids.ts'
import { maxLimitMs } from '../../../protocols/model/job.ts'
import type { IndexRange } from '../../../protocols/model/task-array.ts'
import { parseArray } from '../array.ts'

function wrong(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}

export function count(text: string, least = 1): number {
  const number = Number(text)
  if (!/^\d{1,9}$/.test(text) || number < least) throw wrong(`it is a whole number of at least ${least}`)
  return number
}

const minuteMs = 60_000

/**
 * Milliseconds of `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes` or
 * `days-hours:minutes:seconds`; undefined for no limit (0, UNLIMITED, INFINITE).
 */
export function timeMs(text: string): number | undefined {
  if (/^(UNLIMITED|INFINITE)$/i.test(text)) return undefined
  const found = /^(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?$/.exec(text)
  if (found === null) throw wrong('write minutes, minutes:seconds, hours:minutes:seconds, days-hours or days-hours:minutes:seconds')
  const [, days, ...rest] = found
  const parts = rest.filter((part) => part !== undefined).map(Number)
  const [first, second = 0, third = 0] = parts as [number, number?, number?]
  let seconds: number
  if (days !== undefined) seconds = Number(days) * 86_400 + first * 3600 + second * 60 + third
  else if (parts.length === 3) seconds = first * 3600 + second * 60 + third
  else seconds = first * 60 + second
  // Slurm counts in minutes, and takes a part of one for a whole.
  const limit = Math.ceil(seconds / 60) * minuteMs
  if (limit > maxLimitMs) throw wrong('it is at most 180 days')
  return limit === 0 ? undefined : limit
}

const mebibytes: Record<string, number> = { K: 1 / 1024, M: 1, G: 1024, T: 1024 * 1024 }

/** MiB of `4000`, `4G`, `512K`; undefined for 0, which is all that a node has. */
export function memoryMiB(text: string): number | undefined {
  const found = /^(\d{1,12})([KMGT])?B?$/i.exec(text)
  if (found === null) throw wrong('write a number of megabytes, or one with K, M, G or T')
  const amount = Math.ceil(Number(found[1]) * mebibytes[(found[2] ?? 'M').toUpperCase()]!)
  return amount === 0 ? undefined : amount
}

export interface ArraySetting {
  ranges: IndexRange[]
  /** Tasks that run at once at most. */
  limit?: number
}

/** `0-15`, `1,3,5-9:2`, `0-99%4`. */
export function arrayOf(text: string): ArraySetting {
  const [indexes = '', limit, ...more] = text.split('%')
  if (more.length > 0) throw wrong('write one % only, such as 0-99%4')
  return { ranges: parseArray(indexes), ...(limit === undefined ? {} : { limit: count(limit) }) }
}

/** The least of `2` or `2-4`. */
export function nodesOf(text: string): number {
  const found = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(text)
  if (found === null) throw wrong('write a number of nodes, or the least and the most, such as 2-4')
  const [least, most] = [count(found[1]!), found[2]]
  if (most !== undefined && Number(most) < least) throw wrong('the most is less than the least')
  return least
}

/** `gpu`, `gpu:2`, `gpu:a100:2`; other kinds are unknown here. */
export function gresOf(text: string): number {
  let gpus = 0
  for (const part of text.split(',')) {
    const found = /^(?:gres[:/])?gpu(?::[A-Za-z][\w.-]*)?(?::(\d{1,6}))?$/.exec(part)
    if (found === null) throw wrong(`of ${part} nothing is known here; write gpu:N`)
    gpus += found[1] === undefined ? 1 : Number(found[1])
  }
  return gpus
}

/** `2`, `a100:2`. */
export function gpusOf(text: string): number {
  const found = /^(?:[A-Za-z][\w.-]*:)?(\d{1,6})$/.exec(text)
  if (found === null) throw wrong('write a number of GPUs')
  return Number(found[1])
}

export interface Export {
  env: { name: string; value: string }[]
  /** The whole environment was asked for. */
  wantsAll: boolean
}

/** `NAME=value,OTHER`; a bare name has the value that it has here. */
export function exportOf(text: string, environment: Readonly<Record<string, string | undefined>>): Export {
  const env: Export['env'] = []
  let wantsAll = false
  for (const part of text.split(',').map((word) => word.trim())) {
    if (part === 'ALL') wantsAll = true
    else if (part === '' || part === 'NONE' || part === 'NIL') continue
    else {
      const at = part.indexOf('=')
      const name = at < 0 ? part : part.slice(0, at)
      if (!/^[A-Za-z_]\w*$/.test(name)) throw wrong(`${JSON.stringify(name)} is no name of a variable`)
      const value = at < 0 ? environment[name] : part.slice(at + 1)
      if (value === undefined) throw wrong(`${name} is not set here; write ${name}=value`)
      env.push({ name, value })
    }
  }
  return { env, wantsAll }
}

export interface Dependency {
  jobId: string
  condition: 'afterok' | 'afterany'
}

/** `afterok:1:2,afterany:3`: all must be so. */
export function dependenciesOf(text: string): Dependency[] {
  if (text.includes('?')) throw wrong('either-or (?) is not known here; separate with commas: all must be so')
  return text.split(',').flatMap((part) => {
    const [condition, ...ids] = part.split(':')
    if (condition !== 'afterok' && condition !== 'afterany')
      throw wrong(`${condition === undefined || condition === '' ? 'it' : condition} is not known here; write afterok:JOB or afterany:JOB`)
    if (ids.length === 0) throw wrong(`${condition} names no job`)
    return ids.map((jobId) => {
      if (!jobIdSchema.safeParse(jobId).success) throw wrong(`${JSON.stringify(jobId)} is no id of a job`)
      return { jobId, condition }
    })
  })
}

/** The name of a pool. */
export function poolOf(text: string): string {
  if (text.includes(',')) throw wrong('name one pool; a job here has no second choice')
  if (!entityIdSchema.safeParse(text).success) throw wrong('a pool has 1 to 64 characters of A-Z, a-z, 0-9, _ and -')
  return text
}

export interface NameParts {
  jobId: string
  jobName: string
  index?: number
  node: string
  user: string
}

/**
 * The name of a file of standard output: `%j` and `%A` are the job, `%a` the index in an array, `%x` the job's name, `%N` the
 * machine, `%u` the user, `%t` and `%n` 0, `%%` a percent sign; `%4a` has zeros in front. Others stay as they are, and a
 * backslash keeps the whole name as it is.
 */
export function fileName(pattern: string, { jobId, jobName, index, node, user }: NameParts): string {
  if (pattern.includes('\\')) return pattern.replaceAll('\\', '')
  // Outside of an array Slurm has the largest number there.
  const known: Record<string, string> = {
    j: jobId,
    J: jobId,
    A: jobId,
    a: String(index ?? 0),
    x: jobName,
    N: node,
    u: user,
    t: '0',
    n: '0',
    s: 'batch',
  }
  return pattern.replaceAll(/%(\d{0,2})([%A-Za-z])/g, (found, width: string, letter: string) => {
    if (letter === '%') return '%'
    // A name may not lead elsewhere through what is put in.
    return known[letter]?.replaceAll('/', '_').padStart(Math.min(10, Number(width)), '0') ?? found
  })
}
