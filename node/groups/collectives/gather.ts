/**
 * Gather (MPI 4.1, 6.5): small equal blocks up a binomial tree, each member passing on those of its subtree; what is larger or
 * differs in length straight to the root and into its place, as MPICH does it for MPI_Gatherv.
 */
import { binomial, type Call, fromRoot, type Part } from './call.ts'

/** Blocks up to this long go up the tree: longer ones would be copied at every step. */
const treeBytes = 8 << 10

/** Blocks of the same length; at the root all of them in the order of ranks. */
export async function gatherEqual(anyCall: Call, part: Part, root: number, into?: Uint8Array): Promise<Uint8Array | undefined> {
  const { type, bytes } = part
  const length = bytes.byteLength
  const { size } = anyCall
  if (length > treeBytes) {
    const all = anyCall.rank === root ? (into ?? new Uint8Array(length * size)) : bytes
    if (anyCall.rank === root) all.set(bytes, root * length)
    const offsets = Array.from({ length: size + 1 }, (_, rank) => rank * length)
    await gatherBlocks(
      anyCall,
      type,
      all,
      offsets,
      Array.from({ length: size }, (_, rank) => rank),
      root,
    )
    return anyCall.rank === root ? all : undefined
  }
  const call = fromRoot(anyCall, root)
  const { parent, children, span } = binomial(call.rank, size)
  const packed = new Uint8Array(span * length)
  packed.set(bytes)
  await Promise.all(
    children.map((child) => {
      const at = (child - call.rank) * length
      return call.recv(child, { type, into: packed.subarray(at, at + binomial(child, size).span * length) })
    }),
  )
  if (parent >= 0) {
    await call.send(parent, type, packed)
    return undefined
  }
  const all = into ?? new Uint8Array(packed.length)
  all.set(packed.subarray(0, (size - root) * length), root * length)
  all.set(packed.subarray((size - root) * length), 0)
  return all
}

/**
 * Blocks of known lengths, of the members `owners` in this order, into their places at the root; the root's own one is there.
 * Elsewhere `bytes` is the block, or what holds it in its place.
 */
export async function gatherBlocks(
  call: Call,
  type: number,
  bytes: Uint8Array,
  offsets: readonly number[],
  owners: readonly number[],
  root: number,
): Promise<void> {
  const block = (index: number) => bytes.subarray(offsets[index]!, offsets[index + 1]!)
  if (call.rank === root) {
    await Promise.all(owners.map(async (owner, index) => (owner === root ? undefined : call.recv(owner, { type, into: block(index) }))))
    return
  }
  const index = owners.indexOf(call.rank)
  if (index < 0) return
  await call.send(root, type, bytes.byteLength === offsets[index + 1]! - offsets[index]! ? bytes : block(index))
}

/** Whatever each gives, by rank, at the root. */
export async function gatherAny(call: Call, part: Part, root: number, type?: number): Promise<Part[] | undefined> {
  if (call.rank !== root) {
    await call.send(root, part.type, part.bytes)
    return undefined
  }
  const expected = type === undefined ? {} : { type }
  return Promise.all(Array.from({ length: call.size }, async (_, rank) => (rank === root ? part : call.recv(rank, expected))))
}
