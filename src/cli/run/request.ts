/** The options of `run` as a request: files are looked for, tables and lists read. */
import { resolve } from 'node:path'
import { MeshError } from '../../../protocols/errors.ts'
import { entityIdSchema } from '../../../protocols/ids.ts'
import type { Demand } from '../../../protocols/model/resources.ts'
import { memoryMiB } from '../../../protocols/model/vm-sizes.ts'
import { parseArray } from '../array.ts'
import { type Context, integer, pairs, positive } from '../context.ts'
import { durationMs } from '../format.ts'
import type { StagedShared } from './inputs.ts'
import { ArrayItems, type Items, inputItems, singleItem, tableItems } from './items.ts'
import type { RunRequest } from './plan.ts'

/** As they are given. */
export interface RunCommandOptions {
  inputs?: string[]
  null?: boolean
  table?: string
  array?: string
  with?: string[]
  outputs?: string[]
  to?: string
  reduce?: string
  reduceOutputs?: string[]
  stdout?: boolean
  retries?: string
  timeout?: string
  cpus?: string
  memory?: string
  gpus?: string
  slots?: string
  label?: string[]
  env?: string[]
  jobId?: string
  poolId?: string
  try?: string
  resume?: boolean
  maxFails?: string
  dryRun?: boolean
  retention?: string
  detach?: boolean
  quiet?: boolean
}

export async function requestOf(context: Context, options: RunCommandOptions, words: string[]): Promise<RunRequest> {
  const { cwd } = context.world
  if (words.length === 0 || words[0] === '') throw usage("Give the command to run, such as: batchmesh run 'wc -l {input}' --inputs '*.txt'")
  if (options.inputs !== undefined && options.array !== undefined) throw usage('Give either --inputs or --array.')
  if (options.table !== undefined && options.array !== undefined) throw usage('Give either --table or --array.')
  if (options.jobId !== undefined && !entityIdSchema.safeParse(options.jobId).success)
    throw usage(`--job-id ${options.jobId}: an id is 1 to 64 characters of A-Z, a-z, 0-9, _ and -.`)
  const { findShared } = await import('./inputs.ts')
  const shared = await findShared(options.with ?? [], cwd)
  return {
    // `run -- prog` has one word too, but is to be run as it is.
    command: words.length === 1 && !context.hasDashes ? words[0]! : words,
    items: await itemsOf(context, options, shared),
    shared,
    outputs: options.outputs ?? [],
    to: options.to,
    reduce: options.reduce,
    reduceOutputs: options.reduceOutputs ?? [],
    env: pairs(options.env, '--env').map(([name, value]) => ({ name, value })),
    retries: integer(options.retries, '--retries', -1),
    timeoutMs: options.timeout === undefined ? undefined : durationMs(options.timeout, '--timeout'),
    slots: integer(options.slots, '--slots', 1, 256),
    demand: demandOf(options),
  }
}

function demandOf(options: RunCommandOptions): Demand | undefined {
  const demand: Demand = {
    cores: positive(options.cpus, '--cpus'),
    memoryMiB: options.memory === undefined ? undefined : memoryMiB(options.memory),
    gpus: integer(options.gpus, '--gpus', 0),
    labels: options.label === undefined ? undefined : Object.fromEntries(pairs(options.label, '--label')),
  }
  const asked = Object.entries(demand).filter(([, value]) => value !== undefined)
  return asked.length === 0 ? undefined : Object.fromEntries(asked)
}

async function itemsOf(context: Context, options: RunCommandOptions, shared: readonly StagedShared[]): Promise<Items> {
  const { inputs, table, array } = options
  const { cwd } = context.world
  if (options.null === true && !(inputs?.includes('-') && table === undefined))
    throw usage('--null says how the names on standard input are separated: give it with --inputs -.')
  if (array !== undefined) return new ArrayItems(parseArray(array))
  const { findInputs, findRowFiles, namesOf } = await import('./inputs.ts')
  if (table !== undefined) {
    if (inputs?.includes('-'))
      throw usage("--inputs -: with --table, --inputs says by its columns what files a row brings, such as --inputs '{file}'.")
    const { parseTable } = await import('./table.ts')
    const name = table === '-' ? 'the table on standard input' : table
    const rows = parseTable(table === '-' ? await standardInput(context, 'the table') : await tableFile(table, cwd), name)
    return tableItems(rows, await findRowFiles(inputs ?? [], rows, name, cwd, shared))
  }
  if (inputs === undefined) return singleItem
  const list = inputs.includes('-')
    ? namesOf(new TextDecoder().decode(await standardInput(context, 'the names of the inputs, one a line')), options.null === true)
    : undefined
  return inputItems(await findInputs(inputs, list, cwd, shared))
}

async function tableFile(path: string, cwd: string): Promise<Uint8Array> {
  const { readFile } = await import('node:fs/promises')
  try {
    return await readFile(resolve(cwd, path))
  } catch (error) {
    throw new MeshError('InvalidPropertyValue', `--table ${path} cannot be read: ${(error as Error).message}`, { cause: error })
  }
}

async function standardInput(context: Context, what: string): Promise<Uint8Array> {
  if (context.world.interactive) context.say(`Reading ${what}, from the terminal; Ctrl-D ends it.`)
  const { buffer } = await import('node:stream/consumers')
  return await buffer(context.world.stdin)
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
