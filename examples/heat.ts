/**
 * The heat equation on four nodes: node examples/heat.ts [STEPS]
 *
 * A plate of 96 by 192 cells is cut into four blocks. In each step every node takes the cells along the edges of its block
 * from its neighbours (a halo exchange), and computes its own ones. The same on one node gives the same bits.
 */
import { connect, remoteModule } from 'batchmesh'

const plate = { rows: 96, columns: 192, steps: Number(process.argv[2] ?? 600) }
const { heat } = remoteModule<typeof import('./plate.ts')>(new URL('./plate.ts', import.meta.url))

await using mesh = await connect()
const [four] = await mesh.group(4, heat, plate)
const [one] = await mesh.group(1, heat, plate)

/** A character for each 4 by 2 cells, the warmer the darker. */
const shades = ' .:-=+*#%@'
const lines = Array.from({ length: plate.rows / 4 }, (_, row) =>
  Array.from({ length: plate.columns / 2 }, (_, column) => {
    const warmth = four!.field[row * 4 * plate.columns + column * 2]!
    return shades[Math.min(shades.length - 1, Math.floor((warmth / 100) * shades.length))]
  }).join(''),
)
console.log(lines.join('\n'))
console.log(`after ${plate.steps} steps: the largest change of a cell in the last one is ${four!.change.toFixed(4)} degrees`)

const bytes = (field: Float64Array) => Buffer.from(field.buffer, field.byteOffset, field.byteLength)
const isSame = four!.change === one!.change && bytes(four!.field).equals(bytes(one!.field))
console.log(`four nodes and one node: ${isSame ? 'the same bits' : 'NOT THE SAME'}`)
if (!isSame) process.exitCode = 1
