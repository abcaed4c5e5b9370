/**
 * MPI for gangs of command lines: `mpirun` on the primary starts its daemons on the other members through the mesh, without
 * ssh and keys. The environment of the members tells MPI so (preset.ts).
 *
 *   mpirun --> agent (a script) --pipes--> this node --launch protocol--> node of a member --> Membership.launch
 *
 * One place a member's attempt: made before anything of it runs, ended when nothing does any more.
 */
import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { type Attempt, attemptKey } from '../../protocols/ids.ts'
import { launchProtocol } from '../../protocols/launch.ts'
import type { JobBrief } from '../../protocols/leases.ts'
import type { EnvironmentSettings } from '../../protocols/model/job.ts'
import { serverSession } from '../../protocols/rpc.ts'
import type { Wire } from '../../protocols/wire.ts'
import { directoryName } from '../directories.ts'
import type { FindMembership, Gang, Membership } from '../gangs/membership.ts'
import type { Log, Owner, TaskDirectories, TaskPaths } from '../ports.ts'
import { agentScript, memberOf } from './agent-script.ts'
import { type AgentAnswer, AgentServer } from './agent-server.ts'
import { LaunchService, type LaunchSession } from './launch-service.ts'
import { Launcher } from './launcher.ts'
import { hostfileText, hydraHostfileText, type Interface, mpiEnvironment, ranksPerNodeName } from './preset.ts'

export interface MpiParts {
  wire: Wire
  find: FindMembership
  directories: Pick<TaskDirectories, 'makeOwn' | 'removeOwn'>
  /** A directory that tasks can read: the agent lies there. */
  runtimeDir: string
  log: Log
  interfaces?: () => readonly Interface[]
}

export interface MpiSetup {
  attempt: Attempt
  job: Pick<JobBrief, 'jobId' | 'commonEnvironmentSettings'>
  settings: EnvironmentSettings | undefined
  gang: Gang
  paths: TaskPaths
  owner: Owner | undefined
  /** The member has /tmp and /dev/shm of its own. */
  hasOwnTemporary: boolean
}

export interface MpiPlace {
  /** For all programs of the member; the job's and the task's own settings win over it. */
  readonly env: Readonly<Record<string, string>>
  end(): void
}

interface Served {
  server: AgentServer
  membership: PromiseWithResolvers<Membership>
}

export class Mpi {
  readonly #parts: MpiParts
  readonly #agent: string | undefined
  readonly #launcher: Launcher
  readonly #served = new Map<string, Served>()
  readonly #unserve: () => void

  constructor(parts: MpiParts) {
    this.#parts = parts
    this.#agent = writeAgent(parts.runtimeDir)
    if (this.#agent === undefined)
      parts.log.warn(
        { dir: parts.runtimeDir },
        'mpirun cannot start anything on other machines: the path of the data directory has a space or a colon',
      )
    this.#launcher = new Launcher(parts.wire)
    const service = new LaunchService(parts.find, parts.log)
    this.#unserve = parts.wire.serve(launchProtocol, (channel) => {
      const session: LaunchSession = serverSession(
        launchProtocol,
        channel,
        service.handlers(() => session),
      )
    })
  }

  /** Makes what a member needs; nothing of it may run yet (S1). */
  place(setup: MpiSetup): MpiPlace {
    const { attempt, job, gang, paths, owner } = setup
    if (this.#agent === undefined || process.platform !== 'linux') return { env: {}, end: () => undefined }
    const settings = [...(job.commonEnvironmentSettings ?? []), ...(setup.settings ?? [])]
    const ranksPerNode = settings.findLast(({ name }) => name === ranksPerNodeName)?.value
    const isPrimary = gang.index === 0
    const dir = isPrimary ? this.#parts.directories.makeOwn(attempt.jobUid, job.jobId, `mpi-${directoryName(attempt)}`, owner) : ''
    const facts = { dir, hostfile: join(dir, 'hosts'), hydraHostfile: join(dir, 'hydra-hosts') }
    const env = mpiEnvironment(gang, {
      ...facts,
      agent: this.#agent,
      taskDir: paths.taskDir,
      interfaces: (this.#parts.interfaces ?? ownInterfaces)(),
      machineCores: availableParallelism(),
      hasOwnShm: setup.hasOwnTemporary,
      ranksPerNode,
    })
    if (!isPrimary) return { env, end: () => undefined }
    writeFileSync(facts.hostfile, hostfileText(gang, ranksPerNode), { flag: 'wx', mode: 0o644 })
    writeFileSync(facts.hydraHostfile, hydraHostfileText(gang, ranksPerNode), { flag: 'wx', mode: 0o644 })
    const agents = join(dir, 'agents')
    mkdirSync(agents, { mode: 0o700 })
    if (owner !== undefined) chownSync(agents, owner.uid, owner.gid)
    return { env, end: this.#open(attempt, gang, { dir, agents, owner }) }
  }

  /** From now on launches of the primary's programs go to the other members. */
  serve(membership: Membership): void {
    this.#served.get(attemptKey(membership.attempt))?.membership.resolve(membership)
  }

  close(): void {
    this.#unserve()
    this.#launcher.close()
    for (const { server } of this.#served.values()) server.close()
  }

  #open(attempt: Attempt, gang: Gang, { dir, agents, owner }: { dir: string; agents: string; owner: Owner | undefined }): () => void {
    const { log, directories } = this.#parts
    const key = attemptKey(attempt)
    const membership = Promise.withResolvers<Membership>()
    membership.promise.catch(() => undefined)
    const server = new AgentServer({
      dir: agents,
      owner,
      members: gang.members.length,
      serve: ({ host, text }, signal) => this.#launch({ attempt, gang, host, text, membership: membership.promise }, signal),
      log,
    })
    const served = { server, membership }
    this.#served.set(key, served)
    return () => {
      if (this.#served.get(key) === served) this.#served.delete(key)
      server.close()
      membership.reject(new Error('The task has ended.'))
      directories
        .removeOwn(dir)
        .catch((error: unknown) => log.warn({ err: error, attempt }, 'the launch directory of a gang could not be removed'))
    }
  }

  async #launch(
    {
      attempt,
      gang,
      host,
      text,
      membership,
    }: { attempt: Attempt; gang: Gang; host: string; text: string; membership: Promise<Membership> },
    signal: AbortSignal,
  ): Promise<AgentAnswer> {
    const { members } = gang
    const index = memberOf(host, members)
    if (index === undefined)
      throw new Error(
        `${host} is no node of this task. Its nodes are ${named(members.map(({ nodeId, address }) => `${nodeId} (${address})`))}.`,
      )
    if (index === 0) return 'here'
    const { peer, addresses = [], nodeId, name } = members[index]!
    const member = await membership
    const lost = new AbortController()
    const unwatch = member.onLost((other, reason) => {
      if (other === index) lost.abort(new Error(`${nodeId} on ${name} was lost: ${reason}`))
    })
    try {
      const target = { peer, addresses, attempt: { ...attempt, member: index } }
      return await this.#launcher.launch(target, text, AbortSignal.any([signal, member.ended, lost.signal]))
    } catch (error) {
      if (lost.signal.aborted) throw lost.signal.reason
      throw new Error(
        `the program could not be started on ${nodeId} (${name}): ${error instanceof Error ? error.message : String(error)}`,
        {
          cause: error,
        },
      )
    } finally {
      unwatch()
    }
  }
}

/** A few of many. */
function named(names: readonly string[]): string {
  return names.length <= 8 ? names.join(', ') : `${names.slice(0, 8).join(', ')} and ${names.length - 8} more`
}

/** Writes the agent where every user can execute it. Undefined where Open MPI, which splits its path, could not call it. */
function writeAgent(runtimeDir: string): string | undefined {
  const dir = join(runtimeDir, 'mpi')
  const path = join(dir, 'launch-agent')
  if (/[\s:,"'\\$`]/.test(path)) return undefined
  mkdirSync(dir, { recursive: true })
  for (const open of [runtimeDir, dir]) chmodSync(open, 0o755)
  writeFileSync(path, agentScript)
  chmodSync(path, 0o755)
  return path
}

function ownInterfaces(): Interface[] {
  return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    addresses.flatMap(({ family, cidr }) => (family === 'IPv4' && cidr !== null ? [{ name, cidr }] : [])),
  )
}
