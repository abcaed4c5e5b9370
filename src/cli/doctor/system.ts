/** What doctor asks of the system: its programs, briefly and without their failures ending anything. */
import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** A tool that hangs must not keep the doctor. */
const toolPatienceMs = 3000

/** Where a program is; system directories are looked into even where an ordinary user's path lacks them. */
export function which(program: string, path = process.env.PATH ?? ''): string | undefined {
  for (const directory of [...path.split(delimiter), '/usr/sbin', '/sbin']) {
    if (directory === '') continue
    try {
      accessSync(join(directory, program), constants.X_OK)
      return join(directory, program)
    } catch {
      // Not there.
    }
  }
  return undefined
}

/** What a program prints; undefined when it is missing, fails or takes too long. */
export function said(program: string, ...args: string[]): Promise<string | undefined> {
  const path = which(program)
  if (path === undefined) return Promise.resolve(undefined)
  return new Promise((resolve) => {
    const child = execFile(path, args, { timeout: toolPatienceMs, killSignal: 'SIGKILL', encoding: 'utf8' }, (error, stdout) =>
      resolve(error === null ? stdout : undefined),
    )
    child.stdin?.end()
  })
}
