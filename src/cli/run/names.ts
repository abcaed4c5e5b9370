/** Names of jobs: made up, and of those that take up another: JOB-r2, JOB-r3 … */

/** A job of a made-up name is asked for soon or never; until it is deleted its blobs take room at its home. */
export const madeUpRetentionMs = 7 * 86_400_000

/** Sorts by time in lists, and is not made up twice. */
export function madeUpId(kind: string): string {
  const now = new Date()
    .toISOString()
    .replaceAll(/[-:]|\..*/g, '')
    .replace('T', '-')
  return `${kind}-${now}-${crypto.randomUUID().slice(0, 8)}`
}

/** Azure's limit of a job's id. */
const maxIdChars = 64

/** The names to try after a job's own, in this order. */
export function* laterNames(jobId: string): Generator<string, never> {
  const [, base, number] = /^(.*?)(?:-r(\d{1,9}))?$/.exec(jobId)!
  for (let next = Math.max(2, Number(number ?? 1) + 1); ; next += 1) {
    const ending = `-r${next}`
    yield base!.slice(0, maxIdChars - ending.length) + ending
  }
}
