/** A program that is a node itself: it founds a mesh, another one joins it, and both work. */
import { join } from 'batchmesh'

await using founder = await join({ name: 'founder', listen: ['127.0.0.1'], lendCpus: 1, mdns: false })
const token = await founder.invite()

// As a rule this runs on another machine.
await using helper = await join({ token, name: 'helper', listen: ['127.0.0.1'], lendCpus: 1, mdns: false, labels: { kind: 'helper' } })

for await (const done of helper.run({ command: 'echo done by a helper', labels: { kind: 'helper' } })) {
  console.log(`${(await done.stdout()).trim()}: ${done.machine}`)
}
console.log((await founder.machines.list()).map(({ name }) => name).join(' and '))
