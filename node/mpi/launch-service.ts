/** Serving side of protocols/launch.ts: programs that the primary of a gang starts in the place of a member that runs here. */
import { join } from 'node:path'
import { MeshError, toMeshError } from '../../protocols/errors.ts'
import { type Attempt, attemptKey, type PeerIdText } from '../../protocols/ids.ts'
import { type Launched, type launchProtocol, maxLaunches, maxSaidBytes } from '../../protocols/launch.ts'
import type { Handlers, Session } from '../../protocols/rpc.ts'
import type { FindMembership, Membership } from '../gangs/membership.ts'
import type { Log } from '../ports.ts'
import { readTail } from '../post-mortem.ts'
import { agentFailed } from './agent-script.ts'

type Server = (typeof launchProtocol)['server']
type Client = (typeof launchProtocol)['client']
export type LaunchSession = Pick<Session<Client, Server>, 'note' | 'isClosed'>

interface Launch {
  readonly stop: AbortController
  launched: Launched | undefined
  /** The channel of who asked last. */
  session: () => LaunchSession | undefined
}

export class LaunchService {
  readonly #find: FindMembership
  readonly #log: Log
  readonly #members = new WeakMap<Membership, Map<string, Launch>>()
  #count = 0

  constructor(find: FindMembership, log: Log) {
    this.#find = find
    this.#log = log
  }

  /** For one channel, whose session is there once it has been made. */
  handlers(session: () => LaunchSession | undefined): Handlers<Server> {
    return {
      calls: {
        launch: ({ attempt, id, text }, { remote }) => {
          const member = this.#member(attempt, remote.peer)
          const launches = this.#launches(member)
          let launch = launches.get(id)
          if (launch === undefined) {
            if (launches.size >= maxLaunches)
              throw new MeshError(
                'ServerBusy',
                `The member runs ${maxLaunches} programs for this task already, or nobody asked how they ended.`,
              )
            launch = { stop: new AbortController(), launched: undefined, session }
            launches.set(id, launch)
            void this.#run(member, launch, { attempt, id, text })
          }
          launch.session = session
          return launch.launched === undefined ? {} : { ended: launch.launched }
        },
      },
      notes: {
        drop: ({ attempt, id }, remote) => {
          const member = this.#find(attempt)
          if (member === undefined || !isPrimary(member, remote.peer)) return
          const launches = this.#launches(member)
          launches.get(id)?.stop.abort()
          launches.delete(id)
        },
      },
    }
  }

  /** S1: one who may not know of the attempt is told no more than one who names an attempt that is not here. */
  #member(attempt: Attempt, peer: PeerIdText): Membership {
    const member = this.#find(attempt)
    if (member === undefined || !isPrimary(member, peer) || member.ended.aborted)
      throw new MeshError('TaskNotFound', 'No member of such a gang runs on this machine.')
    return member
  }

  #launches(member: Membership): Map<string, Launch> {
    const known = this.#members.get(member)
    if (known !== undefined) return known
    const launches = new Map<string, Launch>()
    this.#members.set(member, launches)
    return launches
  }

  async #run(member: Membership, launch: Launch, { attempt, id, text }: { attempt: Attempt; id: string; text: string }): Promise<void> {
    this.#count += 1
    const file = (of: string) => join(member.paths.taskDir, `launch-${this.#count}-${of}.txt`)
    const [stdoutPath, stderrPath] = [file('stdout'), file('stderr')]
    const signal = AbortSignal.any([launch.stop.signal, member.ended])
    try {
      const exitCode = await member.launch({ text, env: {}, stdoutPath, stderrPath }, signal)
      launch.launched = { exitCode: exitCode & 0xff, said: exitCode === 0 ? '' : (readTail(stderrPath, maxSaidBytes) ?? '') }
    } catch (error) {
      if (!signal.aborted) this.#log.warn({ err: error, attempt: attemptKey(attempt) }, 'a launch on a member of a gang failed')
      launch.launched = { exitCode: agentFailed, said: toMeshError(error).message.slice(0, maxSaidBytes) }
    }
    const session = launch.session()
    if (session?.isClosed === false) session.note('ended', { attempt, id, launched: launch.launched })
  }
}

/** The primary has no launches of its own: its programs are the task's. */
function isPrimary({ attempt, gang }: Membership, peer: PeerIdText): boolean {
  return attempt.member !== undefined && gang.members[0]?.peer === peer
}
