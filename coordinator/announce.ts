/** The coordinator's gossip about itself and its pools: machines that lost their way to it hear that it is there (G1). */
import { encode } from '../protocols/codec.ts'
import { type PoolsAnnouncement, poolsTopic } from '../protocols/pools.ts'
import type { Wire } from '../protocols/wire.ts'
import type { State } from './state.ts'

/** Gossip costs milliseconds of CPU a node: seldom is enough for what only shortens a back-off. */
const everyMs = 30_000
/** Pools in one announcement; a mesh with more announces the first. */
const maxPools = 1000

/** Announces now and then until the returned function is called. */
export function announce(wire: Wire, meshId: string, state: State): () => void {
  const publish = () => {
    const pools = [...state.pools.values()].slice(0, maxPools).map((pool) => ({
      id: pool.row.spec.id,
      size: pool.row.size,
      wanted: pool.row.spec.targetDedicatedNodes + pool.row.spec.targetLowPriorityNodes,
      current: pool.nodes.size,
    }))
    const announcement: PoolsAnnouncement = { ownerEpoch: state.mesh.ownerEpoch, pools }
    wire.publish(poolsTopic(meshId), encode(announcement))
  }
  const timer = setInterval(publish, everyMs)
  publish()
  return () => clearInterval(timer)
}
