/** Functions that run as a group, over two machines: threads of one share memory, the rest goes over TLS. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MemberError, type Mesh, remoteModule } from '../../src/index.ts'
import { connect } from '../../src/library/connect.ts'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'

const work = remoteModule<typeof import('./support/group-work.ts')>(new URL('./support/group-work.ts', import.meta.url))

let lab: MeshLab
let worker: NodeProcess
let mesh: Mesh
beforeAll(async () => {
  lab = await MeshLab.create()
  const founder = await lab.up('founder', { args: ['--label', 'place=here'] })
  worker = await lab.up('worker', { join: founder, args: ['--label', 'place=there'] })
  mesh = await connect({ dataDir: founder.dataDir })
})
afterAll(async () => {
  await mesh?.close()
  await lab?.close()
})

/** No pool of a group is left, and nothing of it runs. */
async function nothingLeft(): Promise<void> {
  expect((await mesh.pools.list()).map(({ id }) => id)).toEqual(['default'])
  await lab.until('nothing runs', async () => (await mesh.machines.list()).every(({ runningTasks }) => runningTasks === 0))
}

async function failureOf(group: Promise<unknown>): Promise<MemberError> {
  const error: unknown = await group.catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(MemberError)
  return error as MemberError
}

describe('a group of functions', () => {
  it('on two machines gives what each member returned, by rank', async () => {
    const all = await mesh.group(4, work.sums, 200_000, 'word')
    expect(all.map(({ rank, before, word, length, isRight }) => ({ rank, before, word, length, isRight }))).toEqual(
      [3, 0, 1, 2].map((before, rank) => ({ rank, before, word: 'word', length: 200_000, isRight: true })),
    )
    expect(all.map(({ ranks, sizes }) => ({ ranks, sizes }))).toEqual(
      [0, 1, 0, 1].map((color) => ({ ranks: [color, color + 2], sizes: [2, 1] })),
    )
    await nothingLeft()
  })

  it('on one machine runs in threads of one process', async () => {
    const labels = { place: 'here' }
    const all = await mesh.group({ size: 4, labels }, work.sums, 1000, '')
    expect(all.every(({ isRight }) => isRight)).toBe(true)
    expect(new Set(all.map(({ pid }) => pid)).size).toBe(1)
  })

  it('M1: of which one throws fails everywhere with that, its rank, and the lines of its file', async () => {
    const error = await failureOf(mesh.group(4, work.fail, 2))
    expect(error).toMatchObject({ rank: 2, failureInfo: { code: 'ThreadFailed' } })
    expect(error.message).toMatch(/^Rank 2 of the group failed: RangeError: rank 2 has had enough/)
    expect((error.cause as Error).stack).toMatch(/group-work\.ts:\d+:\d+/)
    const { stdout } = await lab.cli('founder', ['task', 'show', `${error.jobId}/${error.taskId}`])
    expect(stdout).toContain('ThreadFailed at rank 2: RangeError: rank 2 has had enough')
    await nothingLeft()
  })

  it('M1: of which one ends its thread fails everywhere with that', async () => {
    const error = await failureOf(mesh.group(3, work.exit, 1))
    expect(error).toMatchObject({ rank: 1, exitCode: 3, failureInfo: { code: 'ThreadEnded' } })
  })

  it('M1: whose machine is killed runs again as one, with the right result, and spends no retry', async () => {
    const jobId = 'killed'
    const group = mesh.group({ size: 4, jobId, retries: 0 }, work.again)
    const runs = async () => (await mesh.tasks.readFile(jobId, 'group', 'stdout.txt')).toString() === 'running\n'
    await lab.until('it runs', runs)
    await worker.kill()
    worker = await lab.up('worker')
    expect(await group).toEqual(Array.from({ length: 4 }, () => Array.from({ length: 4 }, () => '2')))
    const { executionInfo, attempts } = await mesh.tasks.get(jobId, 'group')
    expect(executionInfo).toMatchObject({ retryCount: 0, requeueCount: 1 })
    expect(attempts.map(({ end }) => end)).toEqual(['lost', 'success'])
  })

  it('that is aborted ends on all machines', async () => {
    const stop = new AbortController()
    const jobId = 'aborted'
    const group = mesh.group({ size: 4, jobId, signal: stop.signal }, work.again)
    await lab.until('it runs', async () => (await mesh.tasks.readFile(jobId, 'group', 'stdout.txt')).length > 0)
    stop.abort(new Error('enough'))
    await expect(group).rejects.toThrow('enough')
    expect((await mesh.tasks.get(jobId, 'group')).executionInfo.failureInfo?.code).toBe('TaskEnded')
    await nothingLeft()
  })
})
