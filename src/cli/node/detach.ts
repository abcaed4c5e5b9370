/** `batchmesh up --detach`: the node in a process of its own, which outlives this one. */
import { spawn } from 'node:child_process'
import { mkdir, open, readFile, rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { LogLevel } from '../../mesh/log.ts'
import type { Settings } from '../../mesh/settings.ts'
import type { Context } from '../context.ts'
import { optionsOf } from './settings-words.ts'

interface Ready {
  ready: { peer: string; meshId: string; welcome: string }
}

/** A log may grow so large before the next start begins another: weeks of a quiet node, and nothing for a disk. */
const maxLogBytes = 10 * 2 ** 20

export interface Detached {
  dataDir: string
  join: string | undefined
  /** On the command line; the rest the node finds by itself, where this process found it. */
  given: Settings
  defaults: boolean
  logLevel: LogLevel
}

/** Starts the node, waits until it is ready or has failed, and answers the exit code. */
export async function detach(context: Context, options: Detached): Promise<number> {
  const logDirectory = join(options.dataDir, 'log')
  // The log is private; the directories above, where they are made here too, must let task users through.
  await mkdir(options.dataDir, { recursive: true, mode: 0o711 })
  await mkdir(logDirectory, { recursive: true, mode: 0o700 })
  const logPath = join(logDirectory, 'node.log')
  await rotate(logPath)
  const log = await open(logPath, 'a', 0o600)
  const { size: logStart } = await log.stat()
  const ending = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const main = fileURLToPath(new URL(`../main.${ending}`, import.meta.url))
  const { BATCHMESH_JOIN: _, ...env } = context.world.env
  const child = spawn(process.execPath, [...process.execArgv, main, ...words(options)], {
    detached: true,
    cwd: context.world.cwd,
    stdio: ['ignore', log.fd, log.fd, 'ipc'],
    // A token in the arguments would be shown to every user of the machine by ps.
    env: options.join === undefined ? env : { ...env, BATCHMESH_JOIN: options.join },
  })
  const outcome = await new Promise<Ready | number | Error>((resolve) => {
    child.once('message', (message) => resolve(message as Ready))
    child.once('exit', (code) => resolve(code ?? 1))
    child.once('error', resolve)
  })
  await log.close()
  if (typeof outcome === 'object' && 'ready' in outcome) {
    if (child.connected) child.disconnect()
    child.unref()
    await context.done(`${outcome.ready.welcome}It runs in the background (process ${child.pid}); its log is ${logPath}`, {
      peer: outcome.ready.peer,
      meshId: outcome.ready.meshId,
      pid: child.pid,
      log: logPath,
    })
    return 0
  }
  if (outcome instanceof Error) throw outcome
  // The child has said why in its log, in the same words that the foreground would have used.
  const said = (await readFile(logPath)).subarray(logStart).toString('utf8').trim().split('\n').slice(-10)
  for (const line of said) context.say(line)
  if (said.join('') === '') context.say(`batchmesh: the node ended before it was ready (exit code ${outcome}); see ${logPath}`)
  return outcome === 0 ? 1 : outcome
}

/** Puts a large log aside, in place of the one before. */
export async function rotate(path: string): Promise<void> {
  const size = await stat(path).then(
    (found) => found.size,
    () => 0,
  )
  if (size > maxLogBytes) await rename(path, `${path}.1`)
}

function words({ dataDir, given, defaults, logLevel }: Detached): string[] {
  const list = ['up', '--data', dataDir, '--log-level', logLevel, ...(defaults ? ['--defaults'] : [])]
  for (const [name, values] of Object.entries(optionsOf(given))) {
    if (typeof values === 'boolean') list.push(values ? `--${name}` : `--no-${name}`)
    else for (const value of values) list.push(`--${name}`, value)
  }
  return list
}
