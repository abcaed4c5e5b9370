/**
 * Scatter (MPI 4.1, 6.6): small equal blocks down a binomial tree, each member passing on those of its subtree; what is larger
 * or differs in length straight from the root, after a note down the tree that says so.
 */
import { noteType } from '../datatypes.ts'
import { allSent, binomial, type Call, type Expected, fromRoot, note, type Part } from './call.ts'

/** Blocks up to this long go down the tree: longer ones would be copied at every step. */
const treeBytes = 8 << 10

/** What the root has for each: equal blocks of an array, or one part a rank. */
export type ToScatter = { equal: Part } | { parts: readonly Part[] }

/** The own part. The others give nothing. */
export async function scatter(anyCall: Call, root: number, data: ToScatter | undefined, expected: Expected = {}): Promise<Part> {
  const call = fromRoot(anyCall, root)
  const { rank, size } = call
  const { parent, children, span } = binomial(rank, size)
  if (data !== undefined) return fromTop(anyCall, call, root, data, children)
  // How long a block is shows in how long those of the subtree are.
  const type = expected.type === undefined ? {} : { type: expected.type }
  const first = await call.recv(parent, { ...type, orNote: true })
  if (first.type === noteType) {
    await allSent(children.map((child) => call.send(child, first.type, first.bytes)))
    return call.recv(0, expected)
  }
  const length = first.bytes.byteLength / span
  await allSent(children.map((child) => sendSubtree(call, child, first, (child - rank) * length, length)))
  return { type: first.type, bytes: first.bytes.subarray(0, length) }
}

async function fromTop(anyCall: Call, call: Call, root: number, data: ToScatter, children: number[]): Promise<Part> {
  const { size } = call
  if ('equal' in data) {
    const { type, bytes } = data.equal
    const length = bytes.byteLength / size
    const own = { type, bytes: bytes.subarray(root * length, (root + 1) * length) }
    if (length <= treeBytes) {
      // In the order of ranks counted from the root.
      const packed = new Uint8Array(bytes.byteLength)
      packed.set(bytes.subarray(root * length))
      packed.set(bytes.subarray(0, root * length), (size - root) * length)
      await allSent(children.map((child) => sendSubtree(call, child, { type, bytes: packed }, child * length, length)))
      return own
    }
  }
  const partOf = (rank: number): Part => {
    if ('parts' in data) return data.parts[rank]!
    const length = data.equal.bytes.byteLength / size
    return { type: data.equal.type, bytes: data.equal.bytes.subarray(rank * length, (rank + 1) * length) }
  }
  const said = note()
  await allSent(children.map((child) => call.send(child, said.type, said.bytes)))
  await allSent(
    Array.from({ length: size }, (_, rank) => {
      const { type, bytes } = partOf(rank)
      return rank === root ? undefined : anyCall.send(rank, type, bytes)
    }),
  )
  return partOf(root)
}

function sendSubtree(call: Call, child: number, { type, bytes }: Part, at: number, length: number): Promise<void> | undefined {
  return call.send(child, type, bytes.subarray(at, at + binomial(child, call.size).span * length))
}
