/** Groups of programs: they meet at the coordinator by a name, and then speak with each other directly. */
import { randomUUID } from 'node:crypto'
import { isIP } from 'node:net'
import type { Group } from '../../node/groups/group.ts'
import { openMember } from '../../node/groups/links/member.ts'
import { openGroup } from '../../node/groups/open.ts'
import { hostOf } from '../../node/host/addresses.ts'
import { MeshError } from '../../protocols/errors.ts'
import { maxGroupSize, type RendezvousAnswer, type RendezvousRequest } from '../../protocols/rendezvous.ts'
import type { Mesh } from './client.ts'
import { Backoff, isOutOfReach } from './sessions.ts'

export type { Group } from '../../node/groups/group.ts'

/** Which group, and how long to wait for it. */
export interface JoinGroupOptions {
  /** Number of members: the same in all programs that join, 1 to 1000. */
  size: number
  /** Ends the wait for the others; join then rejects with its reason. */
  signal?: AbortSignal | undefined
  /** How long to wait for the others; default 60,000. */
  timeoutMs?: number | undefined
  /**
   * Where the other programs reach this one, IP addresses or names, best first. Default: where this machine's node is reached,
   * and 127.0.0.1 for programs on the same machine.
   */
  addresses?: readonly string[] | undefined
}

const defaultTimeoutMs = 60_000
/** An answer may be late by this before the connection counts as stuck. */
const slackMs = 15_000
const loopback = '127.0.0.1'

/** The group of the programs that meet under this name. */
export async function joinGroup(client: Mesh, name: string, options: JoinGroupOptions): Promise<Group> {
  const { size, signal, timeoutMs = defaultTimeoutMs } = options
  if (name.length < 1 || name.length > 128) throw invalid(`The name of a group has 1 to 128 characters, not ${name.length}.`)
  if (!Number.isInteger(size) || size < 1 || size > maxGroupSize)
    throw invalid(`The size of a group is a whole number from 1 to ${maxGroupSize}, not ${size}.`)
  if (!(timeoutMs >= 0)) throw invalid(`timeoutMs is a number of milliseconds, not ${timeoutMs}.`)
  signal?.throwIfAborted()
  const deadline = performance.now() + timeoutMs
  const addresses = options.addresses ?? (await addressesOf(client))
  const member = await openMember({ addresses })
  const request = { name, size, requestId: randomUUID(), card: member.card }
  try {
    return openGroup(await member.join(await rendezvous(client, request, deadline, signal)))
  } catch (error) {
    member.close()
    if (!signal?.aborted) throw error
    // Nobody shall wait with one that is not there.
    client.control.call('rendezvous', { ...request, waitMs: 0 }).catch(() => undefined)
    throw signal.reason
  }
}

/** Asks until it is answered: a coordinator that is away for a moment has forgotten who waited. */
async function rendezvous(
  client: Mesh,
  request: Omit<RendezvousRequest, 'waitMs'>,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<RendezvousAnswer> {
  const backoff = new Backoff()
  for (;;) {
    // 0 is said by who gives up.
    const waitMs = Math.max(1, Math.round(deadline - performance.now()))
    try {
      const given = signal === undefined ? {} : { signal }
      return await client.control.call('rendezvous', { ...request, waitMs }, { timeoutMs: waitMs + slackMs, ...given })
    } catch (error) {
      const canRepeat = isOutOfReach(error) && error.code !== 'OperationTimedOut' && performance.now() < deadline
      if (!canRepeat) throw error
    }
    await backoff.pause(signal)
  }
}

/** Where the node of this machine is reached, so is its program; loopback last, for members on the same machine. */
async function addressesOf(client: Mesh): Promise<string[]> {
  const { addresses } = await client.local.call('status', {})
  const hosts = addresses.map(hostOf).filter((host) => host !== undefined)
  return [...new Set(hosts.filter((host) => !isLoopback(host)).slice(0, 16)), loopback]
}

function isLoopback(host: string): boolean {
  return host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

function invalid(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
