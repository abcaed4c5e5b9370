/**
 * Broadcast (MPI 4.1, 6.4): down a binomial tree; a long message is scattered and then gathered round the ring, so that no
 * member sends it more than about twice (van de Geijn's algorithm, as in Thakur et al. 2005, 3.2).
 */
import { elementBytes, noteType } from '../datatypes.ts'
import { ring, shares } from './blocks.ts'
import { allSent, binomial, type Call, type Expected, fromRoot, note, type Part, readNote, refusal } from './call.ts'
import { bcastOnStage } from './stage.ts'

/** From here on, and from this many members on, bytes are scattered and gathered: the tree sends them log2(size) times. */
const longBytes = 256 << 10
const longSize = 4

/** What the root gives, on every member. `expected` is what the others can take. */
export async function bcast(anyCall: Call, root: number, data: Part | undefined, expected: Expected = {}): Promise<Part> {
  const call = fromRoot(anyCall, root)
  const { rank, size } = call
  if (size === 1) return data!
  const { parent, children } = binomial(rank, size)
  const isLong = data !== undefined && data.bytes.byteLength >= longBytes && size >= longSize
  const first =
    data === undefined ? await call.recv(parent, { ...expected, orNote: true }) : isLong ? note(data.type, data.bytes.byteLength) : data
  await allSent(children.map((child) => call.send(child, first.type, first.bytes)))
  if (first.type !== noteType) return first
  const [type, length] = readNote(first)
  const misfit = refusal({ type: type!, bytes: length! }, root, expected)
  if (misfit !== undefined) throw misfit
  const part = data ?? { type: type!, bytes: expected.into ?? new Uint8Array(length!) }
  const stage = await call.stage()
  if (stage === undefined) await scatterGather(call, part)
  else await bcastOnStage(call, stage, part.bytes, 0)
  return part
}

/** From rank 0, into bytes of the same length. */
async function scatterGather(call: Call, { type, bytes }: Part): Promise<void> {
  const { rank, size } = call
  const offsets = shares(bytes.byteLength, size, elementBytes(type))
  const { parent, children, span } = binomial(rank, size)
  if (parent >= 0) await call.recv(parent, { type, into: bytes.subarray(offsets[rank]!, offsets[rank + span]!) })
  const sent = children.map((child) => {
    const end = child + binomial(child, size).span
    return call.send(child, type, bytes.subarray(offsets[child]!, offsets[end]!))
  })
  await ring(call, type, bytes, offsets, rank)
  await allSent(sent)
}
