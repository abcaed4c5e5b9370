/** Progress on stderr: a bar on a terminal, now and then a line elsewhere. */
import { SingleBar } from 'cli-progress'
import type { TaskCounts } from '../../../protocols/model/job.ts'
import { showBytes, showDuration } from '../format.ts'
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
  /** Keeps still while something is asked. */
  hold(held: boolean): void
  stop(): void
}

/** A line is written no more often than this where there is no terminal. */
const lineEveryMs = 10_000

export function makeProgress(world: World, quiet: boolean): Progress {
  if (quiet) return silent
  return world.stderr.isTTY ? bar(world) : lines(world)
}

const nothing = () => {}
const silent: Progress = {
  upload: nothing,
  uploaded: nothing,
  tasks: nothing,
  counts: nothing,
  clear: nothing,
  hold: nothing,
  stop: nothing,
}

function bar(world: World): Progress {
  const colour = world.env.NO_COLOR === undefined || world.env.NO_COLOR === ''
  let isHeld = false
  const stream = {
    isTTY: true,
    get columns() {
      return world.stderr.columns
    },
    write: (text: string) => {
      if (!isHeld) void world.stderr.write(text)
      return true
    },
  } as unknown as NodeJS.WritableStream
  let current: SingleBar | undefined
  let total = 0
  let sent = 0
  let began = Date.now()
  const begin = (format: string, count: number) => {
    current?.stop()
    total = count
    began = Date.now()
    current = new SingleBar({
      stream,
      format,
      barsize: 24,
      barCompleteChar: '█',
      barIncompleteChar: '░',
      clearOnComplete: true,
      forceRedraw: true,
    })
    current.start(total, 0, { note: '', rate: '-', left: '-' })
  }
  const update = (done: number, note: string) => {
    const rate = done / Math.max(1, Date.now() - began)
    const left = done === 0 ? '-' : showDuration((total - done) / rate)
    current?.update(done, { note, rate: done === 0 ? '-' : (rate * 1000).toFixed(1), left })
  }
  return {
    upload: (bytes) => {
      if (bytes > 0) begin('uploading {bar} {percentage}%  {note}  ETA {left}', bytes)
    },
    uploaded: (bytes) => {
      sent += bytes
      update(sent, showBytes(sent))
    },
    tasks: (count, what = 'tasks') => begin(`${what} {bar} {value}/{total}  {note}  {rate}/s  ETA {left}`, count),
    counts: ({ completed, running, failed }) => {
      const failures = failed === 0 ? '' : colour ? `, \u001b[31m${failed} failed\u001b[39m` : `, ${failed} failed`
      update(completed, `${running} running${failures}`)
    },
    clear: () => {
      if (current !== undefined && !isHeld) void world.stderr.write('\r\u001b[K')
    },
    hold: (held) => {
      isHeld = held
    },
    stop: () => {
      isHeld = false
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
      void world.stderr.write(what === 'tasks' ? `running ${count} ${count === 1 ? 'task' : 'tasks'}\n` : `${what} …\n`)
    },
    counts: ({ completed, running, failed }) => {
      if (Date.now() - last < lineEveryMs) return
      last = Date.now()
      void world.stderr.write(`${completed}/${total} complete, ${running} running, ${failed} failed\n`)
    },
  }
}
