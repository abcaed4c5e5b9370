/**
 * Staging: a task's inputs into its working directory, and its outputs out of it (steps 5 and 7 of a task's walk).
 *
 * Inputs are files of their own, checked as they are made (B1), so what a task does to them never reaches the store.
 * Outputs are taken without following any link, and are kept only when they are durable at the job's home (B2).
 */
import { open, symlink, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { maxFileBytes } from '../protocols/blobs.ts'
import { MeshError, toMeshError } from '../protocols/errors.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import type { OutputEntry, OutputFile, ResourceFile } from '../protocols/model/task.ts'
import { Limit } from './blobs/limit.ts'
import type { BlobExchange } from './blobs.ts'
import { type Owner, type Staging, TaskFailure } from './ports.ts'
import { within } from './staging/beneath.ts'
import { download } from './staging/download.ts'
import { findOutputs, uploadFailure } from './staging/find.ts'
import { SharedInputs } from './staging/shared.ts'
import type { StoreLog } from './store/reader.ts'
import type { BlobStore } from './store/store.ts'
import { walkTree } from './store/tree.ts'

/** Azure Batch's default mode of resource files. */
const defaultMode = 0o770
/** Files of one task that are made or taken in at once; many tasks do so together. */
const filesAtOnce = 8
/** Outputs of one task: small ones wait for a sync here and at the home, which those that wait together share. */
const outputsAtOnce = 128
/** A fetch that failed for a passing reason is tried so often: about 10 minutes, the longest silence before a lease ends. */
const fetchTries = 25
/** System errors that have nothing to do with the file. */
const passing = new Set(['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN', 'EINTR'])
/** First pause before something is tried again; doubles up to the longest. */
const firstPauseMs = 1000
const longestPauseMs = 30_000

export interface StagingOptions {
  store: BlobStore
  exchange: Pick<BlobExchange, 'pull' | 'push'>
  /** Where shared inputs lie; every task's user must be able to reach it. Emptied at start. */
  sharedDir: string
  /** Bytes of shared inputs to keep that no task uses; default 20 GiB. */
  keepSharedBytes?: number
  /** Who to ask for inputs and other seeds: the coordinator. */
  homePeer: () => PeerIdText | undefined
  log?: StoreLog
  /** Waits before something is tried again; replaced in tests. */
  pause?: (ms: number, signal: AbortSignal) => Promise<void>
}

export function createStaging(options: StagingOptions): Staging {
  const shared = new SharedInputs(options.store, options.sharedDir, options.keepSharedBytes)
  const { pause = async (ms, signal) => await sleep(ms, undefined, { signal }) } = options
  return {
    stage: async (files, wd, owner, signal) => {
      const limit = new Limit(filesAtOnce)
      await all(files.map((file) => limit.run(() => stageOne({ ...options, pause, shared, wd, owner, signal }, file))))
    },
    collect: async (patterns, wd, ended, to, signal) => {
      const wanted = patterns.filter(({ uploadCondition }) => uploadCondition === 'taskcompletion' || uploadCondition === `task${ended}`)
      if (wanted.length === 0) return []
      return await collect({ ...options, pause, shared, wd, signal }, wanted, to)
    },
    keep: async (name, dir, to, signal) => {
      const entry = await keep({ ...options, pause, shared, wd: dir, signal }, name, to, signal)
      await unlink(join(dir, name)).catch(() => undefined)
      return entry
    },
    done: (wd) => shared.done(wd),
  }
}

interface Context extends StagingOptions {
  pause: (ms: number, signal: AbortSignal) => Promise<void>
  shared: SharedInputs
  wd: string
  signal: AbortSignal
}
interface StageContext extends Context {
  owner: Owner | undefined
}

async function stageOne(context: StageContext, file: ResourceFile): Promise<void> {
  const { signal, store } = context
  signal.throwIfAborted()
  const names = file.filePath.split('/').filter((name) => name !== '' && name !== '.')
  if (names.includes('..') || file.filePath.startsWith('/')) {
    throw new TaskFailure({
      category: 'usererror',
      code: 'ResourceFileCreateFailed',
      message: `The resource file path ${file.filePath} leads out of the working directory.`,
    })
  }
  // `.` is the place of a directory whose files lie in the working directory itself.
  if (names.length === 0 && (file.httpUrl !== undefined || file.shared === true)) throw notADirectory(file)
  try {
    if (file.httpUrl !== undefined) return await stageUrl(context, file.httpUrl, names, modeOf(file))
    const id = file.blob!
    const release = await store.hold(id)
    try {
      await retryDamaged(async () => {
        await fetchBlob(context, id)
        if (names.length === 0 && (await store.rows([id]))[0]?.kind === 'file') throw notADirectory(file)
        if (file.shared === true) await stageShared(context, id, names)
        else await stageBlob(context, id, names, modeOf(file))
      })
    } finally {
      release()
    }
  } catch (error) {
    signal.throwIfAborted()
    throw stageFailure(file, error)
  }
}

function notADirectory({ filePath }: ResourceFile): TaskFailure {
  return new TaskFailure({
    category: 'usererror',
    code: 'ResourceFileCreateFailed',
    message: `The resource file path ${filePath} is the working directory itself: only a directory blob that is not shared can lie there. Give the file a name.`,
  })
}

/** Says which file it is that could not be had from the web. */
function named(file: ResourceFile, { info }: TaskFailure): TaskFailure {
  return new TaskFailure({ ...info, message: `The resource file ${file.filePath} could not be had: ${info.message}`.slice(0, 4096) })
}

/** A blob that turned out damaged was taken out of the store: it is fetched again and handed out anew. */
async function retryDamaged(work: () => Promise<void>): Promise<void> {
  for (let left = 2; ; left--) {
    try {
      return await work()
    } catch (error) {
      if (left === 0 || toMeshError(error).code !== 'BlobCorrupt') throw error
    }
  }
}

async function fetchBlob(context: StageContext, id: string): Promise<void> {
  const { store, exchange, homePeer, signal, pause } = context
  for (let tries = 1; ; tries++) {
    if (await store.has(id)) return
    try {
      return await exchange.pull(id, { home: homePeer(), signal })
    } catch (error) {
      const failure = toMeshError(error)
      if (signal.aborted || !failure.retryable || tries === fetchTries) throw error
      await pause(pauseMs(tries), signal)
    }
  }
}

async function stageBlob(context: StageContext, id: string, names: readonly string[], mode: number): Promise<void> {
  const { store, wd, owner, signal } = context
  const [row] = await store.rows([id])
  if (row?.kind === 'file') {
    await within(wd, names.slice(0, -1), { owner }, (directory) =>
      replacing(directory.at(names.at(-1)!), (path) => store.handOut(id, path, { mode, owner })),
    )
    return
  }
  const limit = new Limit(filesAtOnce)
  const folders: string[][] = []
  const files: { names: string[]; id: string }[] = []
  await walkTree(store, id, (entry) => {
    const parts = [...names, ...(entry.path === '' ? [] : entry.path.split('/'))]
    if (entry.kind === 'directory') folders.push(parts)
    else files.push({ names: parts, id: entry.id })
  })
  for (const folder of folders) await within(wd, folder, { owner }, async () => undefined)
  await all(
    files.map((file) =>
      limit.run(async () => {
        signal.throwIfAborted()
        await within(wd, file.names.slice(0, -1), { owner }, (directory) =>
          replacing(directory.at(file.names.at(-1)!), (path) => store.handOut(file.id, path, { mode, owner })),
        )
      }),
    ),
  )
}

async function stageShared(context: StageContext, id: string, names: readonly string[]): Promise<void> {
  const target = await context.shared.path(id, context.wd)
  await within(context.wd, names.slice(0, -1), { owner: context.owner }, (directory) =>
    replacing(directory.at(names.at(-1)!), (path) => symlink(target, path)),
  )
}

async function stageUrl(context: StageContext, url: string, names: readonly string[], mode: number): Promise<void> {
  const { wd, owner, signal } = context
  await within(wd, names.slice(0, -1), { owner }, (directory) =>
    replacing(directory.at(names.at(-1)!), async (path) => {
      const file = await open(path, 'wx', 0o600)
      try {
        await download(url, file, signal)
        if (owner !== undefined) await file.chown(owner.uid, owner.gid)
        await file.chmod(mode)
      } finally {
        await file.close()
      }
    }),
  )
}

/** Of two resource files with the same path the later one stays, as in Azure Batch; what is there is unlinked, never written to. */
async function replacing(path: string, make: (path: string) => Promise<void>): Promise<void> {
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  await make(path)
}

function modeOf(file: ResourceFile): number {
  return file.fileMode === undefined ? defaultMode : Number.parseInt(file.fileMode, 8)
}

function stageFailure(file: ResourceFile, error: unknown): Error {
  if (error instanceof TaskFailure) return file.httpUrl === undefined ? error : named(file, error)
  const what = `The resource file ${file.filePath}`
  const failure = (category: 'usererror' | 'servererror', code: TaskFailure['info']['code'], message: string) =>
    new TaskFailure({ category, code, message: message.slice(0, 4096) }, { cause: error })
  if (error instanceof MeshError) {
    const code = error.code === 'BlobNotFound' ? 'BlobNotFound' : error.code === 'StoreFull' ? 'DiskFull' : 'BlobDownloadMiscError'
    return failure(error.retryable ? 'servererror' : 'usererror', code, `${what} could not be had: ${error.message}`)
  }
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOSPC' || code === 'EDQUOT') return failure('servererror', 'DiskFull', `${what} could not be written: the disk is full.`)
  if (
    code === 'ELOOP' ||
    code === 'ENOTDIR' ||
    code === 'EISDIR' ||
    code === 'ENAMETOOLONG' ||
    code === 'EEXIST' ||
    code === 'EPERM' ||
    code === 'EACCES'
  ) {
    return failure('usererror', 'ResourceFileCreateFailed', `${what} cannot be made at this path: ${message}.`)
  }
  return failure('servererror', 'ResourceFileWriteFailed', `${what} could not be written: ${message}.`)
}

async function collect(
  context: Context,
  patterns: readonly OutputFile[],
  to: { home: PeerIdText; jobUid: number },
): Promise<OutputEntry[]> {
  const { wd, shared, signal } = context
  const named = patterns.map((pattern) => pattern.filePattern)
  const paths = await findOutputs(wd, named, shared.isShared).catch((error: unknown) => {
    throw unreadable('The working directory', error)
  })
  const limit = new Limit(outputsAtOnce)
  return await all(paths.map((path) => limit.run(() => keep(context, path, to, signal))))
}

/** Takes one output in, and to the job's home. Waits while a store is full or the home cannot be reached (B2). */
async function keep(context: Context, path: string, to: { home: PeerIdText; jobUid: number }, signal: AbortSignal): Promise<OutputEntry> {
  const { exchange, pause, log } = context
  for (let tries = 1; ; tries++) {
    signal.throwIfAborted()
    let entry: OutputEntry | undefined
    try {
      entry = await takeOutput(context, path)
      await exchange.push([entry.blob], to.home, `job:${to.jobUid}`, { signal })
      return entry
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof TaskFailure) throw error
      const failure = toMeshError(error)
      log?.warn({ path, home: to.home, code: failure.code, tries }, 'an output cannot be stored yet and is tried again')
      await pause(pauseMs(tries), signal)
    }
  }
}

async function takeOutput({ store, wd }: Context, path: string): Promise<OutputEntry> {
  const names = path.split('/')
  try {
    return await within(wd, names.slice(0, -1), undefined, async (directory) => {
      const file = await directory.openFile(names.at(-1)!)
      try {
        const state = await file.stat()
        if (!state.isFile()) throw uploadFailure(`The output ${path} is no regular file any more.`)
        // A second name of somebody else's file would give away what the task itself cannot read.
        if (state.nlink > 1 && state.uid !== (await directory.uid())) {
          throw uploadFailure(`The output ${path} is a hard link to a file of another user; copy the file instead.`)
        }
        if (state.size > maxFileBytes) throw uploadFailure(`The output ${path} is larger than ${maxFileBytes} bytes; split it.`)
        const { id, size } = await store.importFile(file, { cache: true })
        return { path, blob: id, size, mode: state.mode & 0o777 }
      } finally {
        await file.close()
      }
    })
  } catch (error) {
    throw unreadable(`The output ${path}`, error)
  }
}

/** What the task has done to its files is its failure; what passes (a full disk, too many open files) is tried again. */
function unreadable(what: string, error: unknown): unknown {
  const { code = '', errno, message } = error as NodeJS.ErrnoException
  if (errno === undefined || passing.has(code)) return error
  if (code === 'ENOENT') return uploadFailure(`${what} vanished while it was taken in.`, error)
  if (code === 'ELOOP' || code === 'ENOTDIR' || code === 'ENXIO') return uploadFailure(`${what} is no regular file any more.`, error)
  return uploadFailure(`${what} cannot be read: ${message}.`, error)
}

function pauseMs(tries: number): number {
  return Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(tries - 1, 10))
}

/** Like Promise.all, but leaves nothing running behind when one fails. */
async function all<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const results = await Promise.allSettled(work)
  const failed = results.find((result) => result.status === 'rejected')
  if (failed !== undefined) throw failed.reason
  return results.map((result) => (result as PromiseFulfilledResult<T>).value)
}
