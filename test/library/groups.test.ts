/** Programs that form a group by its name, each through a connection of its own. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestMesh, type Mesh, type TestMesh } from '../../src/index.ts'

let mesh: TestMesh
let programs: Mesh[]
beforeAll(async () => {
  mesh = await createTestMesh({ machines: 2 })
  programs = [mesh, ...mesh.others, mesh]
})
afterAll(() => mesh?.close())

describe('programs that join a group', () => {
  it('become its members, with ranks in the order of arrival, and work together', async () => {
    const groups = await Promise.all(programs.map((program) => program.groups.join('sum', { size: 3 })))
    expect(groups.map(({ rank }) => rank).sort((a, b) => a - b)).toEqual([0, 1, 2])
    const sums = await Promise.all(groups.map((group) => group.allreduce(new Float64Array(1000).fill(group.rank + 1), 'sum')))
    for (const sum of sums) expect([sum[0], sum[999]]).toEqual([6, 6])
    await Promise.all(groups.map((group) => group.close()))
  })

  it('may use a name again', async () => {
    for (const size of [2, 3]) {
      const groups = await Promise.all(programs.slice(0, size).map((program) => program.groups.join('again', { size })))
      expect(new Set(groups.map(({ rank }) => rank)).size).toBe(size)
      await Promise.all(groups.map((group) => group.close()))
    }
  })

  it('are told how many came, when some do not', async () => {
    const alone = mesh.groups.join('few', { size: 4, timeoutMs: 200 })
    await expect(alone).rejects.toMatchObject({
      code: 'OperationTimedOut',
      message: 'The group "few" needs 4 members; 1 came within 0.2 s.',
    })
  })

  it('of another size are refused, and the others wait on', async () => {
    const stop = new AbortController()
    const waiting = mesh.groups.join('sizes', { size: 3, signal: stop.signal })
    await expect(
      (async () => {
        for (;;) await programs[1]!.groups.join('sizes', { size: 2, timeoutMs: 100 }).catch(ignoreTimeout)
      })(),
    ).rejects.toMatchObject({ code: 'InvalidPropertyValue' })
    stop.abort(new Error('enough'))
    await expect(waiting).rejects.toThrow('enough')
  })

  it('give up their place when they are aborted', async () => {
    const stop = new AbortController()
    const first = mesh.groups.join('aborted', { size: 2, signal: stop.signal })
    // Until it waits at the coordinator.
    await mesh.groups.join('aborted', { size: 3 }).catch(() => undefined)
    stop.abort(new Error('changed my mind'))
    await expect(first).rejects.toThrow('changed my mind')
    await expect(mesh.groups.join('aborted', { size: 2, signal: stop.signal })).rejects.toThrow('changed my mind')
    const groups = await Promise.all([1, 2].map(() => mesh.groups.join('aborted', { size: 2 })))
    expect(await Promise.all(groups.map((group) => group.allreduce(1, 'sum')))).toEqual([2, 2])
    await Promise.all(groups.map((group) => group.close()))
  })

  it.each([
    ['', 2, 'The name of a group has 1 to 128 characters'],
    ['x', 0, 'The size of a group is a whole number from 1 to 1000, not 0.'],
    ['x', 2.5, 'not 2.5.'],
    ['x', 1001, 'not 1001.'],
  ])('are refused a group that cannot be: %j of %d', async (name, size, message) => {
    await expect(mesh.groups.join(name, { size })).rejects.toThrow(message)
  })
})

/** The other one has not arrived yet. */
function ignoreTimeout(error: unknown): void {
  if ((error as { code?: string }).code !== 'OperationTimedOut') throw error
}
