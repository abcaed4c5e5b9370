/** Groups of programs: they meet at the coordinator by a name, and then speak with each other directly. */
import { randomUUID } from 'node:crypto'
import { isIP } from 'node:net'
import type { Link } from '../../node/groups/link.ts'
import { openMember } from '../../node/groups/links/member.ts'
import { hostOf } from '../../node/host/addresses.ts'
import { MeshError } from '../../protocols/errors.ts'
import { maxGroupSize, type RendezvousAnswer, type RendezvousRequest } from '../../protocols/rendezvous.ts'
import type { Mesh } from './client.ts'
import { Backoff, isOutOfReach } from './sessions.ts'

export interface MeetOptions {
  size: number
  signal?: AbortSignal | undefined
  timeoutMs?: number | undefined
  addresses?: readonly string[] | undefined
}

const defaultTimeoutMs = 60_000
/** An answer may be late by this before the connection counts as stuck. */
const slackMs = 15_000
const loopback = '127.0.0.1'

/** A link to the other programs that meet under this name. */
export async function meet(client: Mesh, name: string, options: MeetOptions): Promise<Link> {
  const { size, signal, timeoutMs = defaultTimeoutMs } = options
  if (name.length < 1 || name.length > 128) throw invalid(`The name of a group has 1 to 128 characters, not ${name.length}.`)
  if (!Number.isInteger(size) || size < 1 || size > maxGroupSize)
    throw invalid(`The size of a group is a whole number from 1 to ${maxGroupSize}, not ${size}.`)
  if (!(timeoutMs >= 0)) throw invalid(`timeoutMs is a number of milliseconds, not ${timeoutMs}.`)
  signal?.throwIfAborted()
  const deadline = performance.now() + timeoutMs
  const addresses = options.addresses ?? (await addressesOf(client))
  const member = await openMember({ addresses })
  try {
    const request = { name, size, requestId: randomUUID(), card: member.card }
    return await member.join(await rendezvous(client, request, deadline, signal))
  } catch (error) {
    member.close()
    signal?.throwIfAborted()
    throw error
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
    const waitMs = Math.max(0, Math.round(deadline - performance.now()))
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
