/** The machines of a simulated mesh. */
import type { MachineDescription } from '../../protocols/model/machine.ts'
import type { Labels } from '../../protocols/model/resources.ts'
import type { World } from './world.ts'

/** How much larger than usual pools and gangs are. */
export function scaleOf(machines: number): number {
  return Math.max(1, Math.floor(machines / 6))
}

/** Most meshes are small, where every machine matters; a few are as large as the simulation can take. */
function machineCount(world: World): number {
  const share = world.random()
  if (share < 0.85) return world.between(5, 8)
  if (share < 0.97) return world.between(9, 24)
  return share < 0.995 ? world.between(25, 60) : world.between(61, 200)
}

export function makeMachines(world: World): MachineDescription[] {
  const count = machineCount(world)
  return Array.from({ length: count }, (_, i) => {
    // The first stays large and dedicated, so that nothing waits for capacity that no machine has.
    const isLow = i > 2 && world.chance(0.5)
    return {
      name: `w${i + 1}`,
      class: isLow ? 'low-priority' : 'dedicated',
      capacity: { cores: i === 0 ? 2 + 6 * scaleOf(count) : world.between(3, 5), memoryMiB: 16_384, gpus: 0 },
      diskFreeMiB: 10_000,
      labels: (i === 0 ? { site: 'cellar' } : {}) as Labels,
      os: 'linux',
      arch: 'x64',
      version: '0',
      isolation: 'process-group',
      mpi: [{ flavor: 'openmpi', version: world.pick(['4.1.4', '4.1.6']) }],
      addresses: [],
      nodeRootDir: '/tmp',
    } satisfies MachineDescription
  })
}
