/** Content in and out of the mesh: node examples/blobs.ts FILE */
import { connect } from 'batchmesh'

await using mesh = await connect()

const [path = 'README.md'] = process.argv.slice(2)
const { id, size } = await mesh.blobs.putFile(path, { pin: 'examples' })
console.log(`${path} is ${id} (${size} bytes)`)

// Uploaded once, used by as many tasks as you like.
for await (const done of mesh.run({ command: 'wc -l < {input}', inputs: [{ blob: id, path: 'text' }] })) {
  console.log(`it has ${(await done.stdout()).trim()} lines`)
}
console.log(`begins with ${JSON.stringify((await mesh.blobs.read(id)).toString('utf8', 0, 9))}`)
await mesh.blobs.unpin(id, 'examples')
