import { pino } from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type LeaseSession, Reporter } from '../../node/worker/reporter.ts'
import type { Unit } from '../../node/worker/units.ts'
import { noDemand } from '../../protocols/model/resources.ts'

function finished(task: string): Unit {
  const attempt = { jobUid: 1, task, epoch: 1 }
  const outcome = { exitCode: 0, startTime: 1, endTime: 2 }
  return { key: `1/${task}/1`, attempt, nodeId: 'n', phase: 'finished', outcome, slots: 1, demand: noDemand, passed: 0 }
}

describe('outcomes', () => {
  const sent: string[][] = []
  let isBusy = false
  let reporter: Reporter
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'performance'] })
    sent.length = 0
    const session = {
      call: async (_name: string, { reports }: { reports: { attempt: { task: string } }[] }) => {
        sent.push(reports.map(({ attempt }) => attempt.task))
        return { verdicts: reports.map(() => 'accepted') }
      },
    }
    reporter = new Reporter({ log: pino({ level: 'silent' }), isBusy: () => isBusy, verdict: () => {} })
    reporter.connect(session as unknown as LeaseSession)
    vi.advanceTimersByTime(1000)
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('go at once after a pause', async () => {
    isBusy = true
    reporter.finished(finished('a'))
    await vi.advanceTimersByTimeAsync(0)
    expect(sent).toEqual([['a']])
  })

  it('gather for longer while tasks wait to be started than when none does', async () => {
    const reportsIn = async (ms: number) => {
      sent.length = 0
      for (let at = 0; at < ms; at += 1) {
        reporter.finished(finished(`${at}`))
        await vi.advanceTimersByTimeAsync(1)
      }
      return sent.length
    }
    isBusy = false
    const idle = await reportsIn(200)
    isBusy = true
    const busy = await reportsIn(200)
    expect(idle).toBeGreaterThan(3 * busy)
    expect(busy).toBeGreaterThan(5)
  })

  it('that gathered go soon when the last task has been started', async () => {
    isBusy = true
    reporter.finished(finished('a'))
    await vi.advanceTimersByTimeAsync(0)
    reporter.finished(finished('b'))
    await vi.advanceTimersByTimeAsync(5)
    expect(sent).toEqual([['a']])
    isBusy = false
    reporter.finished(finished('c'))
    await vi.advanceTimersByTimeAsync(0)
    expect(sent).toEqual([['a'], ['b', 'c']])
  })
})
