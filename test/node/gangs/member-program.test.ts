import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { launchScript, memberCommand, orderLine, readAnswer } from '../../../node/gangs/member-script.ts'
import { wildTag } from '../task-lab.ts'
import { cases, TierDriver } from '../tier-driver.ts'

const driver = new TierDriver(new URL('member-driver.ts', import.meta.url))
afterEach(() => driver.clean())

describe.each(cases)('the program of a member, $tier as $user', (each) => {
  const reason = driver.obstacle(each)
  if (reason !== undefined) console.log(`skipped: ${each.tier} as ${each.user}: ${reason}`)

  it.skipIf(reason !== undefined)('goes from its coordination command to its end, with what is launched beside it', async () => {
    expect(await driver.drive(each, wildTag(), 'live')).toEqual({
      // The service that the coordination command left answers the command line, and ends with it.
      beforeGo: 'none',
      whole: {
        ...{ exitCode: 7, killed: false, left: 0 },
        ...{ stdout: 'served hello\n0\nx\ncoordinated\n', stderr: 'oops\n', coordination: 'coordinated\n' },
      },
      // Nothing follows a coordination command that failed.
      failing: { exitCode: 5, killed: false, isReady: false, stderr: 'no\n', stdout: 'none' },
      missing: { exitCode: 127, killed: false, stderr: expect.stringContaining('no-such-program') },
      unknown: { exitCode: 126, killed: false, stderr: expect.stringContaining('Permission denied') },
      // Launched ones see SIGINT again, have their own files, and only one of them is killed.
      launched: [130, 130, 130],
      launchedOut: "it's 2 OWN/2.sh\nTASK/wd\n",
      ...{ oddly: 4, oddlyOut: '', wild: 137, early: 'AbortError', neighbour: 6 },
      // Who left its group and wiped its environment goes with the member, where the tier holds it.
      wildLeft: 1,
      launchEnd: { exitCode: 0, killed: false },
      launchLeft: each.escaping,
      late: 'The member of the gang has ended.',
      stopped: { exitCode: 137, killed: true, launched: 'The member of the gang has ended.' },
      stoppedLeft: each.escaping,
      // S1
      ...{ linked: 'EEXIST', followed: false, afterwards: 3, noisy: { exitCode: 0, killed: false }, after: 3 },
    })
  })
})

describe('a launch that is to be killed', () => {
  it('is killed also while it is a process alone, before it has a group and a mark', async () => {
    const setup = { dir: '/', mark: `early.${process.pid}`, stdoutPath: '/dev/null', stderrPath: '/dev/null', systemPath: '/usr/bin:/bin' }
    const [program, ...words] = memberCommand({ ...setup, coordination: [], command: ['true'] })
    const launch = spawn('sleep', ['7206'], { stdio: 'ignore' })
    const ended = new Promise<string | null>((resolve) => launch.once('exit', (_, signal) => resolve(signal)))
    const member = spawn(program!, words, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] })
    try {
      const [orders, answers] = [member.stdio[3] as Writable, createInterface({ input: member.stdio[4] as Readable })]
      orders.write(orderLine({ kill: 1, pid: launch.pid! }))
      for await (const line of answers) if (line === 'killed 1') break
      expect(await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 1000, 'it runs on'))])).toBe('SIGKILL')
    } finally {
      launch.kill('SIGKILL')
      member.kill('SIGKILL')
    }
  })
})

describe('what is said to a member', () => {
  it('is one short line', () => {
    expect([orderLine('go'), orderLine({ launch: 3 }), orderLine({ kill: 3, pid: 77 })]).toEqual(['go\n', 'launch 3\n', 'kill 3 77\n'])
  })

  it('is answered in few words, and anything else is nothing', () => {
    expect(readAnswer('ready')).toEqual({ ready: true })
    expect(readAnswer('started 3 4711')).toEqual({ started: 3, pid: 4711 })
    expect(readAnswer('ended 3 255')).toEqual({ ended: 3, exitCode: 255 })
    expect(readAnswer('killed 3')).toEqual({ killed: 3 })
    for (const line of [
      '',
      'ready 1',
      'ended 3',
      'ended x 1',
      'ended -1 1',
      'killed',
      'killed 1 1',
      'started 1',
      'go',
      'ready\r',
      'ended 1 1 1',
      `ended 1 ${'1'.repeat(12)}`,
    ])
      expect(readAnswer(line), line).toBeUndefined()
  })

  it('has its words as arguments, so that none is read by a shell', () => {
    const setup = { dir: '/d', mark: 'm', stdoutPath: '/o', stderrPath: '/e', systemPath: '/bin' }
    const words = memberCommand({ ...setup, coordination: ["it's", '$(x)'], command: ['`y`', 'a b'] })
    expect(words.slice(-10)).toEqual(['/d', '', '', '/o', '/e', '2', "it's", '$(x)', '`y`', 'a b'])
    expect(words[2]).not.toMatch(/it's|\$\(x\)|`y`/)
  })

  it('cannot hold a NUL in a launch', () => {
    const launch = { text: 'true', env: {}, cwd: '/t', stdoutPath: '/o', stderrPath: '/e' }
    expect(() => launchScript({ ...launch, text: 'tr\0ue' })).toThrow(TypeError)
    expect(() => launchScript({ ...launch, env: { 'a=b': 'c' } })).toThrow(TypeError)
  })
})
