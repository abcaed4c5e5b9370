/** Functions that the members of a group call. Each says which process it ran in. */
import type { Group } from '../../../src/index.ts'

/** Sums of arrays, over all members and within halves of them. */
export async function sums(group: Group, elements: number, word: string) {
  const all = await group.allreduce(new Float64Array(elements).fill(group.rank + 1), 'sum')
  const half = (await group.split(group.rank % 2))!
  const quarter = (await half.split(half.rank))!
  const ranks = await half.allgather(group.rank)
  const next = await group.sendrecv<Int32Array>(Int32Array.of(group.rank), (group.rank + 1) % group.size, { from: 'any' })
  return {
    ...{ word, rank: group.rank, pid: process.pid, ranks, sizes: [half.size, quarter.size], before: next.data[0] },
    ...{ isRight: all.every((value) => value === (group.size * (group.size + 1)) / 2), length: all.length },
  }
}

/** One member throws while the others wait for it. */
export async function fail(group: Group, rank: number): Promise<void> {
  await group.barrier()
  if (group.rank === rank) throw new RangeError(`rank ${rank} has had enough`)
  await group.barrier()
}

/** One member ends its thread. */
export async function exit(group: Group, rank: number): Promise<void> {
  await group.barrier()
  if (group.rank === rank) process.exit(3)
  await group.barrier()
}

/** Never ends in the first attempt of its task, and says that it runs; in a later one it gives the number of the attempt. */
export async function again(group: Group): Promise<string[]> {
  await group.barrier()
  const attempt = /\.(\d+)(?:\+\d+)?$/.exec(process.env.AZ_BATCH_TASK_DIR!)?.[1] ?? '1'
  if (attempt === '1') {
    console.log('running')
    await group.recv()
  }
  return await group.allgather(attempt)
}
