/** What the coordinator of the fake mesh says of it. */
import { version } from '../../src/version.ts'

export const meshStatus = {
  meshId: 'mesh-1',
  coordinator: { peer: 'peer-of-the-coordinator', name: 'tower', version, startTime: 0, ownerEpoch: 1 },
  machines: { connected: 1, known: 2 },
  capacity: { cores: 4, memoryMiB: 8192, gpus: 0 },
  pools: 1,
  jobs: { active: 0, completed: 0 },
  tasks: { active: 0, running: 0, completed: 0, succeeded: 0, failed: 0 },
  heartbeatLagMs: 1,
}
