/** Counts ended tasks, and tells the benchmark when those that it asked for have ended. */
import { spawn } from 'node:child_process'

let ended = 0
let expected = Number.POSITIVE_INFINITY

process.on('message', ({ tasks }: { tasks: number }) => {
  expected = tasks
  tell()
})
process.on('disconnect', () => process.exit())

export function ready(): void {
  process.send!({ done: true })
}

export function oneEnded(): void {
  ended += 1
  tell()
}

function tell(): void {
  if (ended < expected) return
  ended -= expected
  expected = Number.POSITIVE_INFINITY
  process.send!({ done: true })
}

/** Runs /bin/true. */
export function runCommand(): Promise<void> {
  return new Promise((resolve, reject) => {
    spawn('/bin/true', { stdio: 'ignore' })
      .once('error', reject)
      .once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`exit code ${code}`))))
  })
}
