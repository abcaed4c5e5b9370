/** How numbers, times and sizes are shown and read. */
import bytes from 'bytes'
import ms from 'ms'
import { MeshError } from '../../protocols/errors.ts'
import type { Capacity } from '../../protocols/model/resources.ts'

export function showBytes(count: number): string {
  return bytes(count, { unitSeparator: ' ', decimalPlaces: 1 }) ?? `${count} B`
}

export function showDuration(durationMs: number): string {
  if (durationMs < 1000) return `${Math.round(durationMs)}ms`
  if (durationMs < 10_000) return `${(durationMs / 1000).toFixed(1)}s`
  const seconds = Math.round(durationMs / 1000)
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${String(seconds % 60).padStart(2, '0')}s`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h${String(Math.floor((seconds % 3600) / 60)).padStart(2, '0')}m`
  return ms(durationMs)
}

/** Local time, without the date when it is today. */
export function showTime(timeMs: number | undefined, now = new Date()): string {
  if (timeMs === undefined) return ''
  const time = new Date(timeMs)
  const two = (n: number) => String(n).padStart(2, '0')
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
  if (time.toDateString() === now.toDateString()) return clock
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${clock}`
}

export function showCapacity({ cores, memoryMiB, gpus }: Capacity): string {
  const memory = memoryMiB >= 1024 ? `${Math.round((memoryMiB / 1024) * 10) / 10} GiB` : `${Math.round(memoryMiB)} MiB`
  const count = Math.round(cores * 100) / 100
  // A size that names no memory takes none for itself.
  return `${count} ${count === 1 ? 'core' : 'cores'}${memoryMiB > 0 ? `, ${memory}` : ''}${gpus > 0 ? `, ${gpus} GPU${gpus > 1 ? 's' : ''}` : ''}`
}

const isoUnits = { W: 604_800_000, D: 86_400_000, H: 3_600_000, M: 60_000, S: 1000 } as const

/** Milliseconds of an ISO 8601 duration such as PT15M or P7D, or undefined if it is none. Years and months have no fixed length. */
export function isoDurationMs(text: string): number | undefined {
  const found = /^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$/.exec(text)
  if (found === null || found.slice(1).every((part) => part === undefined)) return undefined
  const [, weeks, days, hours, minutes, seconds] = found
  return Math.round(
    Number(weeks ?? 0) * isoUnits.W +
      Number(days ?? 0) * isoUnits.D +
      Number(hours ?? 0) * isoUnits.H +
      Number(minutes ?? 0) * isoUnits.M +
      Number(seconds ?? 0) * isoUnits.S,
  )
}

/** Milliseconds of `90s`, `15m`, `1.5h`, `7d` or an ISO 8601 duration. Throws InvalidPropertyValue. */
export function durationMs(text: string, option: string): number {
  const read =
    isoDurationMs(text.toUpperCase()) ?? (/^\d+(\.\d+)?\s*[a-z]+$/i.test(text.trim()) ? ms(text.trim() as ms.StringValue) : undefined)
  if (read === undefined || !Number.isFinite(read) || read <= 0)
    throw new MeshError('InvalidPropertyValue', `${option} ${text} is not a duration. Write 90s, 15m, 2h, 7d or PT15M.`)
  return Math.round(read)
}
