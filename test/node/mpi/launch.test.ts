/** Both ends of the launch protocol, over wires in memory, with members that are told what becomes of their programs. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Gang, LaunchRequest, Membership } from '../../../node/gangs/membership.ts'
import { LaunchService, type LaunchSession } from '../../../node/mpi/launch-service.ts'
import { Launcher, type Target } from '../../../node/mpi/launcher.ts'
import { pathsIn } from '../../../node/task-paths.ts'
import { type Attempt, attemptKey } from '../../../protocols/ids.ts'
import { launchProtocol, maxLaunches } from '../../../protocols/launch.ts'
import { clientSession, serverSession } from '../../../protocols/rpc.ts'
import { MemoryNet } from '../../support/memory-wire.ts'
import { silentLog } from '../../support/worker/fake-parts.ts'

interface Running extends LaunchRequest {
  signal: AbortSignal
  end(exitCode: number): void
  break(error: Error): void
}

const primary = 'peer-of-the-primary'
const second = 'peer-of-the-second'

/** A gang of a primary and one member on another machine. */
class LaunchLab {
  readonly net = new MemoryNet()
  readonly root = mkdtempSync(join(tmpdir(), 'bm-launch-'))
  readonly attempt: Attempt = { jobUid: 1, task: 't', epoch: 1, member: 1 }
  readonly ended = new AbortController()
  readonly running: Running[] = []
  readonly launcher: Launcher
  #wake: (() => void) | undefined

  constructor(t: { onTestFinished(done: () => void): void }) {
    const members = [primary, second].map((peer, n) => ({ peer, nodeId: `n${n}`, name: `m${n}`, address: '127.0.0.1', cores: 1 }))
    const gang: Gang = { index: 1, members }
    const member: Membership = {
      attempt: this.attempt,
      gang,
      paths: pathsIn(this.root),
      owner: undefined,
      ended: this.ended.signal,
      rally: () => Promise.reject(new Error('not here')),
      onLost: () => () => undefined,
      launch: (request, signal) =>
        new Promise((end, reject) => {
          this.running.push({ ...request, signal, end, break: reject })
          signal.addEventListener('abort', () => end(137), { once: true })
          this.#wake?.()
        }),
    }
    const found = new Map([[attemptKey(this.attempt), member]])
    const service = new LaunchService((attempt) => found.get(attemptKey(attempt)), silentLog)
    const wire = this.net.wire(second, ['worker'])
    wire.serve(launchProtocol, (channel) => {
      const session: LaunchSession = serverSession(
        launchProtocol,
        channel,
        service.handlers(() => session),
      )
    })
    this.launcher = new Launcher(this.net.wire(primary, ['worker']), { retryMs: 1 })
    t.onTestFinished(() => {
      this.launcher.close()
      rmSync(this.root, { recursive: true, force: true })
    })
  }

  get target(): Target {
    return { peer: second, attempt: this.attempt, addresses: [] }
  }

  async next(): Promise<Running> {
    while (this.running.length === 0)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    return this.running.shift()!
  }
}

const forever = new AbortController().signal

describe('a launch', () => {
  it('runs a text in the place of the member, and answers its exit code', async (t) => {
    const lab = new LaunchLab(t)
    const launched = lab.launcher.launch(lab.target, 'orted -mca ess "env"', forever)
    const program = await lab.next()
    expect(program).toMatchObject({ text: 'orted -mca ess "env"', env: {} })
    program.end(0)
    expect(await launched).toEqual({ exitCode: 0, said: '' })
  })

  it('that fails brings the end of its standard error along', async (t) => {
    const lab = new LaunchLab(t)
    const launched = lab.launcher.launch(lab.target, 'orted', forever)
    const program = await lab.next()
    writeFileSync(program.stderrPath, `${'x'.repeat(5000)}\nsh: 1: orted: not found\n`)
    program.end(127)
    const { exitCode, said } = await launched
    expect(exitCode).toBe(127)
    expect(said).toMatch(/\nsh: 1: orted: not found\n$/)
    expect(said.length).toBe(2048)
  })

  it('is not run twice when the channel breaks, and ends as it did meanwhile', async (t) => {
    const lab = new LaunchLab(t)
    const [one, two] = [lab.launcher.launch(lab.target, 'one', forever), lab.launcher.launch(lab.target, 'two', forever)]
    const [first, other] = [await lab.next(), await lab.next()]
    lab.net.cut(second)
    first.end(5)
    lab.net.heal(second)
    expect((await one).exitCode).toBe(5)
    other.end(6)
    expect((await two).exitCode).toBe(6)
    expect(lab.running).toEqual([])
  })

  it('is ended when it is not wanted any more', async (t) => {
    const lab = new LaunchLab(t)
    const stop = new AbortController()
    const launched = lab.launcher.launch(lab.target, 'sleep 1000', stop.signal)
    const { signal } = await lab.next()
    stop.abort(new Error('the member was lost'))
    await expect(launched).rejects.toThrow('the member was lost')
    await new Promise((resolve) => (signal.aborted ? resolve(undefined) : signal.addEventListener('abort', resolve)))
  })

  it('M1: ends with the attempt', async (t) => {
    const lab = new LaunchLab(t)
    const launched = lab.launcher.launch(lab.target, 'sleep 1000', forever)
    await lab.next()
    lab.ended.abort()
    expect((await launched).exitCode).toBe(137)
    await expect(lab.launcher.launch(lab.target, 'true', forever)).rejects.toMatchObject({ code: 'TaskNotFound' })
  })

  it('that the member could not start says why', async (t) => {
    const lab = new LaunchLab(t)
    const launched = lab.launcher.launch(lab.target, 'true', forever)
    ;(await lab.next()).break(new Error('no room on the disk'))
    expect(await launched).toEqual({ exitCode: 255, said: 'no room on the disk' })
  })
})

describe('S1: a launch is refused', () => {
  const ask = async (lab: LaunchLab, peer: string, attempt: Attempt, id = '1') => {
    const channel = await lab.net.wire(peer, ['worker']).open(second, launchProtocol)
    const session = clientSession(launchProtocol, channel, { calls: {}, notes: { ended: () => undefined } })
    return { session, answer: session.call('launch', { attempt, id, text: 'id' }) }
  }
  it.each([
    ['for a machine that is not the primary', 'peer-of-somebody', { jobUid: 1, task: 't', epoch: 1, member: 1 }],
    ['for a member of the gang that is not the primary', second, { jobUid: 1, task: 't', epoch: 1, member: 1 }],
    ['of an attempt that is not here', primary, { jobUid: 1, task: 't', epoch: 2, member: 1 }],
    ['of a member that is not here', primary, { jobUid: 1, task: 't', epoch: 1, member: 2 }],
    ['in the place of the primary', primary, { jobUid: 1, task: 't', epoch: 1 }],
  ])('%s', async (_, peer, attempt) => {
    const lab = new LaunchLab(onceDone())
    await expect((await ask(lab, peer, attempt)).answer).rejects.toMatchObject({ code: 'TaskNotFound' })
    expect(lab.running).toEqual([])
    rmSync(lab.root, { recursive: true })
  })

  it('beyond as many as one member runs, until others are dropped', async (t) => {
    const lab = new LaunchLab(t)
    const { session } = await ask(lab, primary, lab.attempt)
    for (let id = 2; id <= maxLaunches; id += 1) await session.call('launch', { attempt: lab.attempt, id: String(id), text: 'id' })
    await expect(session.call('launch', { attempt: lab.attempt, id: 'more', text: 'id' })).rejects.toMatchObject({ code: 'ServerBusy' })
    session.note('drop', { attempt: lab.attempt, id: '2' })
    await session.call('launch', { attempt: lab.attempt, id: 'more', text: 'id' })
    expect(lab.running.filter(({ signal }) => signal.aborted)).toHaveLength(1)
  })

  it('nothing is dropped for another machine', async (t) => {
    const lab = new LaunchLab(t)
    const { answer } = await ask(lab, primary, lab.attempt)
    await answer
    const other = await ask(lab, 'peer-of-somebody', lab.attempt, '9')
    await other.answer.catch(() => undefined)
    other.session.note('drop', { attempt: lab.attempt, id: '1' })
    await other.session.call('launch', { attempt: lab.attempt, id: '9', text: 'id' }).catch(() => undefined)
    expect(lab.running[0]!.signal.aborted).toBe(false)
  })
})

/** For rows of a table, which clean up themselves. */
function onceDone() {
  return { onTestFinished: () => undefined }
}
