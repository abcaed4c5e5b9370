/** From a machine without a node: an invitation is enough (batchmesh invite --role submitter). node examples/submit.ts TOKEN */
import { connect } from 'batchmesh'

const [token = ''] = process.argv.slice(2)
await using mesh = await connect({ token })

for (const machine of await mesh.machines.list()) console.log(`${machine.name} lends ${machine.capacity.cores} cores`)
for await (const done of mesh.run({ command: 'echo hello from $(uname -s)' })) console.log((await done.stdout()).trim())
