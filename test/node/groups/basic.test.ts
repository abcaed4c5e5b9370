import { expect, it } from 'vitest'
import { run } from './lab.ts'

it('gives the same on groups of 1 to 9', async () => {
  for (let size = 1; size <= 9; size += 1) {
    const out = await run(size, async (group) => {
      await group.barrier()
      const sum = await group.allreduce(group.rank + 1, 'sum')
      const value = await group.bcast(group.rank === 0 ? { a: [1] } : undefined)
      const big = await group.allreduce(new Float64Array(100_000).fill(group.rank), 'sum')
      const all = await group.bcast(group.rank === 0 ? new Float64Array(100_000).fill(7) : undefined)
      const scan = await group.scan(group.rank, 'sum')
      return [sum, value, big[99], all[99_999], scan]
    })
    for (const [rank, own] of out.entries()) {
      expect(own, `${size} ${rank}`).toEqual([(size * (size + 1)) / 2, { a: [1] }, (size * (size - 1)) / 2, 7, (rank * (rank + 1)) / 2])
    }
  }
})
