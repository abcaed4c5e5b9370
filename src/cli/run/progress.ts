/** Progress on stderr: a bar on a terminal, now and then a line elsewhere. */
import { SingleBar } from 'cli-progress'
import type { TaskCounts } from '../../../protocols/model/job.ts'
import { showBytes } from '../format.ts'
import type { World } from '../world.ts'

export interface Progress {
  /** Bytes to upload. */
  upload(totalBytes: number): void
  uploaded(bytes: number): void
  /** Tasks to run, of which so many are complete. */
  tasks(total: number, what?: string): void
  counts(counts: TaskCounts): void
  /** Makes room for other output; the bar comes back by itself. */
  clear(): void
  stop(): void
}

/** A line is written no more often than this where there is no terminal. */
const lineEveryMs = 10_000

export function makeProgress(world: World, quiet: boolean): Progress {
  if (quiet) return silent
  return world.stderr.isTTY ? bar(world) : lines(world)
}

const nothing = () => {}
const silent: Progress = { upload: nothing, uploaded: nothing, tasks: nothing, counts: nothing, clear: nothing, stop: nothing }

function bar(world: World): Progress {
  const colour = world.env.NO_COLOR === undefined || world.env.NO_COLOR === ''
  const stream = {
    isTTY: true,
    get columns() {
      return world.stderr.columns
    },
    write: (text: string) => {
      void world.stderr.write(text)
      return true
    },
  } as unknown as NodeJS.WritableStream
  let current: SingleBar | undefined
  let sent = 0
  const begin = (format: string, total: number) => {
    current?.stop()
    current = new SingleBar({
      stream,
      format,
      barsize: 24,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      hideCursor: false,
      etaBuffer: 50,
      clearOnComplete: true,
      stopOnComplete: false,
    })
    current.start(total, 0, { note: '', rate: '-' })
  }
  let began = Date.now()
  return {
    upload: (total) => {
      if (total > 0) begin(`uploading {bar} {percentage}%  {note}  ETA {eta_formatted}`, total)
    },
    uploaded: (bytes) => {
      sent += bytes
      current?.update(sent, { note: showBytes(sent) })
    },
    tasks: (total, what = 'tasks') => {
      began = Date.now()
      begin(`${what} {bar} {value}/{total}  {note}  {rate}/s  ETA {eta_formatted}`, total)
    },
    counts: ({ completed, running, failed }) => {
      const seconds = (Date.now() - began) / 1000
      const failures = failed === 0 ? '' : colour ? `, \u001b[31m${failed} failed\u001b[39m` : `, ${failed} failed`
      current?.update(completed, { note: `${running} running${failures}`, rate: seconds < 1 ? '-' : (completed / seconds).toFixed(1) })
    },
    clear: () => void world.stderr.write('\r\u001b[K'),
    stop: () => {
      current?.stop()
      current = undefined
    },
  }
}

function lines(world: World): Progress {
  let total = 0
  let last = 0
  return {
    ...silent,
    upload: (bytes) => {
      if (bytes > 0) void world.stderr.write(`uploading ${showBytes(bytes)}\n`)
    },
    tasks: (count, what = 'tasks') => {
      total = count
      last = Date.now()
      void world.stderr.write(`running ${count} ${what}\n`)
    },
    counts: ({ completed, running, failed }) => {
      if (Date.now() - last < lineEveryMs) return
      last = Date.now()
      void world.stderr.write(`${completed}/${total} complete, ${running} running, ${failed} failed\n`)
    },
  }
}
