/**
 * The founder looks for its members too. They know it only by the addresses that it had: if those changed while it was
 * off, nobody would find it, but it still knows where its members were.
 */
import type { PeerIdText } from '../protocols/ids.ts'
import type { Host } from './host.ts'
import type { Membership } from './membership.ts'

/** First dials are spread: so many a second. Most members come by themselves before. */
const dialsPerSecond = 100

/** Keeps the founder connected with every member that it has an address of. Returns how to stop. Elsewhere it does nothing. */
export function reachMembers(options: {
  host: Pick<Host, 'keepConnected' | 'addresses'>
  membership: Pick<Membership, 'founder' | 'peer' | 'isRevoked' | 'onChange'>
  random?: () => number
}): () => void {
  const { host, membership, random = Math.random } = options
  const stops = new Map<PeerIdText, () => void>()
  const members = (membership.founder?.members() ?? []).filter(
    ({ peer, revoked }) => !revoked && peer !== membership.peer && host.addresses(peer).length > 0,
  )
  for (const { peer } of members) {
    const delayMs = (random() * members.length * 1000) / dialsPerSecond
    const timer = setTimeout(() => stops.set(peer, host.keepConnected(peer, [], { patient: true })), delayMs)
    timer.unref()
    stops.set(peer, () => clearTimeout(timer))
  }
  const stopWatching = membership.onChange(() => {
    for (const [peer, stop] of stops) if (membership.isRevoked(peer)) stop()
  })
  return () => {
    stopWatching()
    for (const stop of stops.values()) stop()
  }
}
