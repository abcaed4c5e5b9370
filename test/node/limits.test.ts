/** Memory hogs and fork bombs on this machine's own control groups. */
import { existsSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { directoriesOf, groupsIn } from '../../node/executors/cgroup.ts'
import { candidatePlaces } from '../../node/executors/cgroup-places.ts'
import { Cgroups } from '../../node/executors/cgroups.ts'
import { TaskLab } from './task-lab.ts'
import { ThreadLab } from './thread-lab.ts'

const processes = 60
const found = await Cgroups.open({ seed: 'a trial of the tests' })
const held = typeof found === 'string' ? { memory: false, processes: false } : found.limits
if (typeof found !== 'string') await found.close()
/** Shell text that takes so much memory and says so when it has it. */
const hog = (mib: number) => `head -c ${mib}m /dev/zero | tail -c ${mib}m >/dev/null && echo had it`

let lab: TaskLab
beforeAll(async () => {
  lab = await TaskLab.open({ limits: { memoryMiB: 2048, processes } })
})
afterAll(() => lab.close())

describe.skipIf(!held.memory)('a task that takes too much memory (skipped where the system has no control groups for it)', () => {
  const memory = { limitMiB: 16, isAsked: true }

  it('is ended, and its failure says what it asked for and what to do', async () => {
    const { exitCode, failureInfo } = await lab.sh(await lab.lane(), hog(60), { memory })
    expect(exitCode).toBe(137)
    expect(failureInfo).toMatchObject({ category: 'usererror', code: 'FailureExitCode', reason: 'MemoryLimitExceeded' })
    expect(failureInfo!.message).toContain('more than the 16 MiB of memory that it asked for')
  })

  it('fails also when only a part of it was ended and the rest ended well', async () => {
    const { exitCode, failureInfo } = await lab.sh(await lab.lane(), `${hog(60)}; true`, { memory })
    expect({ exitCode, reason: failureInfo?.reason }).toEqual({ exitCode: 0, reason: 'MemoryLimitExceeded' })
  })

  it('leaves its lane and its neighbours as they were', async () => {
    const [one, other] = [await lab.lane(), await lab.lane()]
    const neighbour = lab.sh(other, `sleep 0.2; ${hog(40)}`, { memory: { limitMiB: 200, isAsked: true } })
    const greedy = await lab.sh(one, hog(60), { memory })
    expect(greedy.failureInfo?.reason).toBe('MemoryLimitExceeded')
    expect(await neighbour).toMatchObject({ exitCode: 0, stdout: 'had it\n' })
    const next = await lab.sh(one, hog(5), { memory })
    expect(next).toMatchObject({ exitCode: 0, stdout: 'had it\n' })
    expect(next.failureInfo).toBeUndefined()
  })

  it('that asked for none is told to ask', async () => {
    const { failureInfo } = await lab.sh(await lab.lane(), hog(60), { memory: { limitMiB: 20, isAsked: false } })
    expect(failureInfo!.message).toContain('because the 20 MiB of memory of its node were used up. Say how much it needs')
  })

  it('gets what it asks for, whatever the task before it in the same lane had', async () => {
    const lane = await lab.lane()
    for (const limitMiB of [20, 200, 20, 200]) {
      const { failureInfo } = await lab.sh(lane, hog(60), { memory: { limitMiB, isAsked: true } })
      expect(failureInfo?.reason).toBe(limitMiB === 20 ? 'MemoryLimitExceeded' : undefined)
    }
  })
})

describe.skipIf(!held.memory)('a function that takes too much memory outside of its heap (skipped as above)', () => {
  const buffers = 'export default () => { const kept = []; for (;;) kept.push(Buffer.alloc(1 << 24, 1)) }'
  const memory = { limitMiB: 100, isAsked: true }

  it('loses those that run beside it, and is named as soon as it runs alone', async () => {
    const threads = await ThreadLab.open({ limits: { memoryMiB: 2048, processes: 4096 } })
    try {
      const neighbour = await threads.waiting({ memory })
      const code = (error: unknown) => (error as { info: { code: string } }).info.code
      const [lost] = await Promise.all([neighbour.ended.catch(code), threads.call(buffers, { memory }).catch(code)])
      expect(lost).toBe('ThreadHostLost')
      const alone = await threads.call(buffers, { memory })
      expect(alone).toMatchObject({ exitCode: 137, failureInfo: { category: 'usererror', code: 'ThreadOutOfMemory' } })
      expect(alone.failureInfo!.message).toContain('the 100 MiB that its task asked for')
      const next = await threads.call('export default () => Buffer.alloc(1 << 26, 1).length', { memory })
      expect(next).toMatchObject({ exitCode: 0, result: 1 << 26 })
    } finally {
      await threads.close()
    }
  })
})

describe.skipIf(!held.processes)('a fork bomb (skipped where the system has no control groups for it)', () => {
  const bomb = 'b() { b | b & }; for n in 1 2 3; do b; done 2>/dev/null; sleep 0.5; exit 3'

  it('stays within its limit, is named, and its lane runs the next task', async () => {
    const lane = await lab.lane()
    const { exitCode, failureInfo } = await lab.sh(lane, bomb)
    expect(exitCode).not.toBe(0)
    expect(failureInfo).toMatchObject({ category: 'usererror', reason: 'ProcessLimitExceeded' })
    expect(failureInfo!.message).toContain(`more than ${processes} processes and threads`)
    expect(await lab.sh(lane, 'exit 0')).toMatchObject({ exitCode: 0 })
  })

  it('has all the processes that it may have', async () => {
    const started = processes - 1
    const script = `n=0; while [ $n -lt ${started} ]; do sleep 30 & n=$((n+1)); done; echo all`
    expect(await lab.sh(await lab.lane(), script)).toMatchObject({ exitCode: 0, stdout: 'all\n' })
    const more = await lab.sh(await lab.lane(), script.replace(`${started}`, `${started + 1}`))
    expect(more.stdout).toBe('')
  })
})

describe.skipIf(!held.memory)('control groups of a node', () => {
  const groupsOf = (name: RegExp) =>
    candidatePlaces().flatMap(({ place }) =>
      directoriesOf(place).flatMap((dir) =>
        groupsIn(dir)
          .filter((group) => name.test(group))
          .map((group) => `${dir}/${group}`),
      ),
    )

  it('are gone with it', async () => {
    const other = await TaskLab.open({ limits: { memoryMiB: 512, processes } })
    await other.sh(await other.lane(), 'true')
    const own = () => groupsOf(new RegExp(`^batchmesh-[0-9a-f]+-${process.pid}-`)).filter((dir) => existsSync(dir))
    const all = own()
    await other.close()
    expect(all.length - own().length).toBeGreaterThan(0)
    expect(own().length).toBe(all.length / 2)
  })

  it('that a killed node left are removed by the next one on its data directory', async () => {
    const first = await Cgroups.open({ seed: 'left' })
    if (typeof first === 'string') throw new Error(first)
    const lane = first.lane(10)
    const [left] = directoriesOf(lane.inside)
    const second = await Cgroups.open({ seed: 'left' })
    if (typeof second === 'string') throw new Error(second)
    await second.sweepLeft()
    expect(existsSync(left!)).toBe(false)
    await second.close()
  })
})
