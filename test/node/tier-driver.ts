/** Programs that stand for nodes (drivers), run in every tier that the machine has, as root and as an ordinary user. */
import { spawn, spawnSync } from 'node:child_process'
import { chownSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import { isRoot, wildTag } from './task-lab.ts'

/** Any user will do that owns nothing here. */
const nobody = 65_534
const asNobody = ['setpriv', '--reuid', `${nobody}`, '--regid', `${nobody}`, '--clear-groups']

export interface Case {
  tier: IsolationTier
  user: 'root' | 'an ordinary user'
  /** Processes that outlive their task: a documented limit of the tier. */
  escaping: number
}
export const cases: Case[] = [
  { tier: 'user+pidns', user: 'root', escaping: 0 },
  { tier: 'process-group', user: 'root', escaping: 0 },
  { tier: 'bwrap', user: 'an ordinary user', escaping: 0 },
  { tier: 'userns', user: 'an ordinary user', escaping: 0 },
  // One that left its parent and wiped its environment.
  { tier: 'process-group', user: 'an ordinary user', escaping: 1 },
]

/** What a driver's directory is called by. */
export const rootPrefix = 'batchmesh-kill-'

export class TierDriver {
  readonly #driver: string
  readonly #roots: string[] = []

  /** `driver` takes a tier, a directory, a tag and a mode; `probe` does nothing. */
  constructor(driver: URL) {
    this.#driver = fileURLToPath(driver)
  }

  command({ tier, user }: Case, tag: string, mode: string): string[] {
    const root = mkdtempSync(join(tmpdir(), rootPrefix))
    this.#roots.push(root)
    if (isRoot && user !== 'root') chownSync(root, nobody, nobody)
    return [...(isRoot && user !== 'root' ? asNobody : []), process.execPath, this.#driver, tier, root, tag, mode]
  }

  /** Why a case cannot be tried here, or undefined. */
  obstacle(each: Case): string | undefined {
    if (each.user === 'root' && !isRoot) return 'the tests do not run as root'
    const [program, ...words] = this.command(each, wildTag(), 'probe')
    const { status, stderr } = spawnSync(program!, words, { encoding: 'utf8' })
    return status === 0 ? undefined : (/Error: .*/.exec(stderr)?.[0] ?? `it ends with ${status}: ${stderr.slice(-300)}`)
  }

  /** What the driver printed. */
  async drive(each: Case, tag: string, mode: string): Promise<Record<string, unknown>> {
    const [program, ...words] = this.command(each, tag, mode)
    const child = spawn(program!, words, { stdio: ['ignore', 'pipe', 'inherit'] })
    let out = ''
    child.stdout.on('data', (data: Buffer) => {
      out += data.toString()
    })
    await new Promise((resolve) => child.once('close', resolve))
    return JSON.parse(out)
  }

  /** Removes the directories. */
  clean(): void {
    for (const root of this.#roots.splice(0)) rmSync(root, { recursive: true, force: true })
  }
}
