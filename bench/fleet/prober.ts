/** Heartbeats from a process of its own, whose loop does nothing else: what they wait for is the coordinator. Prints their times when told to. */
import { leasesProtocol } from '../../protocols/leases.ts'
import { dialSocket } from './socket-wire.ts'
import { SimulatedWorker } from './worker.ts'

const machines = 20
const beatMs = 250

const [path = ''] = process.argv.slice(2)
let beats: number[] = []
for (let n = 0; n < machines; n += 1) {
  const name = `prober-${n}`
  const channel = await dialSocket(path, { peer: `peer-of-${name}`, roles: ['worker'] }, leasesProtocol)
  await new SimulatedWorker(channel, { name, slots: 0, taskMs: 1, beatMs, beat: (ms) => beats.push(ms) }).hello()
}
// Never longer than the benchmark, also when that is killed.
process.on('disconnect', () => process.exit())
process.on('message', () => {
  process.send!(beats)
  beats = []
})
process.send!('ready')
