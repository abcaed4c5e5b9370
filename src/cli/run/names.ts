/** Names of jobs that take up another: JOB-r2, JOB-r3 … */

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
