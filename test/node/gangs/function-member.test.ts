/** Members of a gang of functions: what the runner gives their calls, and when it ends them. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { until } from '../../support/worker/fake-parts.ts'
import { GangLab, type Running } from './gang-lab.ts'

const blob = `b${'a'.repeat(30)}`

let lab: GangLab
beforeEach(async () => {
  lab = await GangLab.open(2)
})
afterEach(() => lab.close())

/** Two members on the first machine and one on the second; their calls have begun. */
async function begun(spec: Parameters<GangLab['start']>[1] = {}): Promise<Running[]> {
  const [one, other] = lab.machines
  const members = lab.start([one!, one!, other!], { thread: { module: blob }, ...spec })
  await until(() => members.every(({ threads }) => threads.calls.length === 1))
  return members
}

const memberOf = ({ threads }: Running) => threads.calls[0]!.gang!
const never = new AbortController().signal

it('each call knows its rank, and meets the others through the nodes', async () => {
  const members = await begun()
  expect(members.map((member) => [memberOf(member).rank, memberOf(member).address])).toEqual([0, 1, 2].map((rank) => [rank, '127.0.0.1']))
  const rallies = await Promise.all(members.map((member, rank) => memberOf(member).rally(Uint8Array.of(rank), never)))
  for (const { cards, key } of rallies) {
    expect(cards.map(([card]) => card)).toEqual([0, 1, 2])
    expect(key).toEqual(rallies[0]!.key)
  }
})

it('common files come to all, the own files of the task to its primary', async () => {
  await begun({
    resourceFiles: [{ filePath: 'own.txt', blob }],
    multiInstanceSettings: { commonResourceFiles: [{ filePath: 'common.txt', blob }] },
  })
  const [one, other] = lab.machines
  expect(one!.staging.staged.toSorted()).toEqual(['common.txt', 'common.txt', 'own.txt'])
  expect(other!.staging.staged).toEqual(['common.txt'])
})

it('M1: a lost member is told to the call of the primary and ends it, which is reported as a lost machine', async () => {
  const [primary, second, third] = (await begun()) as [Running, Running, Running]
  await Promise.all([primary, second, third].map((member, rank) => memberOf(member).rally(Uint8Array.of(rank), never)))
  const heard: number[] = []
  memberOf(primary).onLost((rank) => heard.push(rank))
  third.machine.seen = 'refused'
  third.stop.abort(new Error('killed'))
  expect(await primary.outcome).toMatchObject({ failureInfo: { category: 'servererror', code: 'MachineLost', reason: 'MemberLost' } })
  expect(heard).toEqual([2])
  // The coordinator ends it.
  expect(second.said).not.toContain('vacated')
})
