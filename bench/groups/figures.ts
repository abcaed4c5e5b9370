/** What the members of a benchmark's group measure, by threads and by processes alike. */
import type { Group } from '../../node/groups/group.ts'

export interface Plan {
  /** Of the arrays that are reduced, and of each message that is streamed. */
  bytes: number
  /** Reductions, messages, and turns of the smallest message. */
  reductions: number
  messages: number
  turns: number
}

export interface Figures {
  /** Of one reduction over all members. */
  allreduceMs?: number
  /** Bytes a second from member 0 to member 1. */
  streamed?: number
  /** Of eight bytes, one way: half of a turn. */
  latencyUs?: number
}

export async function allreduceMs(group: Group, { bytes, reductions }: Plan): Promise<number> {
  const data = new Float64Array(bytes / 8).fill(group.rank + 1)
  const into = new Float64Array(bytes / 8)
  for (let turn = 0; turn < 3; turn += 1) await group.allreduce(data, 'sum', { into })
  await group.barrier()
  const start = performance.now()
  for (let turn = 0; turn < reductions; turn += 1) await group.allreduce(data, 'sum', { into })
  const ms = (performance.now() - start) / reductions
  const sum = (group.size * (group.size + 1)) / 2
  if (into[0] !== sum || into.at(-1) !== sum) throw new Error(`the sum is ${into[0]}, not ${sum}`)
  return ms
}

/** Members 0 and 1 only; the others wait. */
export async function latencyUs(group: Group, { turns }: Plan): Promise<number> {
  const own = new Float64Array(1)
  const into = new Float64Array(1)
  let start = 0
  const warm = Math.ceil(turns / 10)
  for (let turn = -warm; turn < turns && group.rank < 2; turn += 1) {
    if (turn === 0) start = performance.now()
    if (group.rank === 0) await group.send(own, 1)
    await group.recv({ from: 1 - group.rank, into })
    if (group.rank === 1) await group.send(own, 0)
  }
  const us = ((performance.now() - start) * 1000) / turns / 2
  await group.barrier()
  return us
}

/** Two messages are on their way at once, as a program has it that does not want to wait between them. */
export async function streamed(group: Group, { bytes, messages }: Plan): Promise<number> {
  const data = [new Uint8Array(bytes).fill(7), new Uint8Array(bytes).fill(7)]
  await group.barrier()
  const start = performance.now()
  const under: Promise<unknown>[] = []
  for (let turn = 0; turn < messages && group.rank < 2; turn += 1) {
    if (turn >= 2) await under.shift()
    under.push(group.rank === 0 ? group.send(data[turn % 2], 1) : group.recv({ from: 0, into: data[turn % 2]! }))
  }
  await Promise.all(under)
  await group.barrier()
  return (bytes * messages) / ((performance.now() - start) / 1000)
}
