/** A command for each file, wherever in the mesh there is room: node examples/first.ts FILE… */
import { connect } from 'batchmesh'

await using mesh = await connect()

const inputs = process.argv.slice(2)
for await (const done of mesh.run({ command: 'gzip -9 < {input} > {base}.gz', inputs, outputs: '*.gz' })) {
  done.check()
  const [path] = await done.save('zipped')
  console.log(`${done.input} is now ${path} (${done.outputs[0]?.size} bytes, made by ${done.machine})`)
}
