/** What a simulated machine is made of, and how long it waits (node/worker/link.ts). */
import type { SimCoordinator } from './coordinator.ts'
import type { GangOracle } from './gang-oracle.ts'
import type { Planted } from './planted.ts'
import type { Gangs } from './programs.ts'
import type { World } from './world.ts'

export const heartbeatMs = 5000
export const silentBeats = 4
export const suspendedMs = 15_000
/** Who was answered so lately has read what was said before that. */
export const inTouchMs = 6000

export const peerOf = (name: string) => `peer-of-machine-${name}`

export interface WorkerParts {
  world: World
  coordinator: SimCoordinator
  oracle: GangOracle
  gangs: Gangs
  planted: Planted
}
