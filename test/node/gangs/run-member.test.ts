import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { brief } from '../../support/worker/fake-coordinator.ts'
import { until } from '../../support/worker/fake-parts.ts'
import { processesOf, wildTag } from '../task-lab.ts'
import { GangLab, type Machine, sh } from './gang-lab.ts'

let lab: GangLab
let a: Machine
let b: Machine
beforeAll(async () => {
  lab = await GangLab.open(2)
  ;[a, b] = lab.machines as [Machine, Machine]
})
afterAll(() => lab.close())

describe('a gang of command lines', () => {
  it('coordinates everywhere, and then the primary alone runs the command line, beside the services that were left', async () => {
    const tag = wildTag()
    const members = lab.start([a, b, b], {
      multiInstanceSettings: {
        coordinationCommandLine: sh(
          `echo "coordinated $AZ_BATCH_IS_CURRENT_NODE_MASTER"; mkfifo ask; (read -r line <ask; echo "$line" >answer; exec sleep ${tag}) &`,
        ),
      },
      commandLine: sh('echo served >ask; until [ -s answer ]; do sleep 0.01; done; cat answer; exit 3'),
    })
    const [primary, ...subtasks] = members
    expect(await primary!.outcome).toMatchObject({ exitCode: 3, failureInfo: { message: 'The program ended with exit code 3.' } })
    expect(primary!.read('stdout.txt')).toBe('served\n')
    expect(primary!.read('coordination-stdout.txt')).toBe('coordinated true\n')
    for (const subtask of subtasks) {
      expect(subtask.read('stdout.txt')).toBe('coordinated false\n')
      expect(subtask.said).toEqual(['started'])
    }
    // The primary's services ended with it, the others wait for the coordinator.
    expect(processesOf(tag).length).toBe(0)
    await lab.end(subtasks)
    for (const subtask of subtasks) expect(await subtask.outcome).toBeUndefined()
  })

  it('needs no coordination command', async () => {
    const [primary, ...subtasks] = lab.start([a, b], { commandLine: sh('printenv CCP_NODES') })
    expect(await primary!.outcome).toMatchObject({ exitCode: 0 })
    expect(primary!.read('stdout.txt')).toBe('2 127.0.0.1 2 127.0.0.1 2\n')
    await lab.end(subtasks)
  })

  it('of one is nothing special', async () => {
    const [primary] = lab.start([a], { multiInstanceSettings: { coordinationCommandLine: sh('echo first') }, commandLine: sh('exit 4') })
    expect(await primary!.outcome).toMatchObject({ exitCode: 4 })
  })

  it('fetches the common files on all members, and the others on the primary when all have coordinated', async () => {
    const blob = `b${'a'.repeat(30)}`
    const [one, two] = [lab.machine(), lab.machine()]
    const gate = Promise.withResolvers<void>()
    const multi = { coordinationCommandLine: sh('true'), commonResourceFiles: [{ filePath: 'common', blob }] }
    two.staging.gate = gate.promise
    const members = lab.start([one, two], { multiInstanceSettings: multi, resourceFiles: [{ filePath: 'own', blob }] })
    await until(() => two.staging.waiting === 1 && one.staging.staged.length === 1)
    expect(one.staging.staged).toEqual(['common'])
    gate.resolve()
    await members[0]!.outcome
    expect([one.staging.staged, two.staging.staged]).toEqual([['common', 'own'], ['common']])
    await lab.end(members)
  })

  it('finds its directory at the same place on all members', async () => {
    const show = 'echo here >in-common; cat $AZ_BATCH_TASK_SHARED_DIR/wd/in-common; echo $AZ_BATCH_TASK_SHARED_DIR'
    const members = lab.start([a, b], { multiInstanceSettings: { coordinationCommandLine: sh(show) } })
    await members[0]!.outcome
    const [first, second] = [members[0]!.read('coordination-stdout.txt'), members[1]!.read('stdout.txt')]
    expect(first).toMatch(/^here\n\/.*\n$/)
    // Without a /tmp of its own for each lane there is no such place.
    if (lab.tasks.executor.tier !== 'process-group') expect(second).toBe(first)
    await lab.end(members)
  })
})

describe('a member whose coordination fails', () => {
  it('ends with its exit code and its last words, and the others wait for the coordinator', async () => {
    const coordinationCommandLine = sh('case $AZ_BATCH_TASK_DIR in *+1) echo "no way" >&2; exit 9 ;; esac')
    const members = lab.start([a, b, a], { multiInstanceSettings: { coordinationCommandLine } })
    expect(await members[1]!.outcome).toMatchObject({
      ...{ exitCode: 9, stderrTail: 'no way\n' },
      failureInfo: { code: 'FailureExitCode', message: 'Coordination command: The program ended with exit code 9.' },
    })
    await members[2]!.until('stdout.txt', '')
    await lab.end(members)
    expect(await members[0]!.outcome).toBeUndefined()
    expect(members[0]!.read('stdout.txt')).toBe('none')
  })

  it('that is the primary says what it said', async () => {
    const members = lab.start([a, b], { multiInstanceSettings: { coordinationCommandLine: 'no-such-program' } })
    expect(await members[0]!.outcome).toMatchObject({
      ...{ exitCode: 127, failureInfo: { code: 'CommandProgramNotFound' } },
      stderrTail: expect.stringContaining('batchmesh: the program was not found'),
    })
    await lab.end(members)
  })

  it('is told from a command line that was not found', async () => {
    const members = lab.start([a, b], { commandLine: './missing' })
    expect(await members[0]!.outcome).toMatchObject({
      exitCode: 127,
      failureInfo: { code: 'CommandProgramNotFound', message: expect.stringMatching(/^The program/) },
      stderrTail: expect.stringContaining('batchmesh: the program was not found'),
    })
    await lab.end(members)
  })
})

describe('M1: a gang', () => {
  it('of which a member is lost ends on the primary, keeps no outputs, and says whom it lost', async () => {
    const tag = wildTag()
    const [one, two] = [lab.machine(), lab.machine()]
    const members = lab.start([one, two], {
      ...{ commandLine: sh(`echo begun; sleep ${tag}`), outputFiles: [{ filePattern: '*' }] },
      multiInstanceSettings: { coordinationCommandLine: sh(`sleep ${tag} &`) },
    })
    await members[0]!.until('stdout.txt', 'begun')
    two.seen = 'refused'
    lab.net.cut(two.peer)
    expect(await members[0]!.outcome).toMatchObject({
      failureInfo: {
        category: 'servererror',
        code: 'MachineLost',
        reason: 'MemberLost',
        message: 'm1 (subtask 1) of the group was lost: its process has ended.',
      },
    })
    expect(one.staging.collected).toEqual([])
    await lab.end(members)
    expect(processesOf(tag)).toEqual([])
  })

  it('of which the primary is lost ends on the others, and one of them says whom it lost', async () => {
    const tag = wildTag()
    const [one, two] = [lab.machine(), lab.machine()]
    const members = lab.start([one, two], {
      ...{ commandLine: sh('echo begun; sleep 60') },
      multiInstanceSettings: { coordinationCommandLine: sh(`sleep ${tag} &`) },
    })
    await members[0]!.until('stdout.txt', 'begun')
    one.seen = 'refused'
    lab.net.cut(one.peer)
    expect(await members[1]!.outcome).toMatchObject({
      failureInfo: { code: 'MachineLost', reason: 'MemberLost', message: 'm0 (the primary) of the group was lost: its process has ended.' },
    })
    await lab.end(members)
    expect(processesOf(tag)).toEqual([])
  })

  it('whose members do not reach each other fails before its command line, naming them', async () => {
    const members = lab.start([a, b], { commandLine: sh('echo begun') }, { addresses: ['127.0.0.1', ''] })
    expect(await members[0]!.outcome).toMatchObject({
      failureInfo: {
        code: 'Unknown',
        reason: 'MembersUnreachable',
        message: expect.stringContaining('m0 (the primary) does not reach m1 (subtask 1)'),
      },
    })
    expect(members[0]!.read('stdout.txt')).toBe('none')
    await lab.end(members)
  })

  it('that is stopped leaves nothing, wherever its members are in their life', async () => {
    const tag = wildTag()
    const late = sh(`sleep ${tag} & case $AZ_BATCH_TASK_DIR in *+1) echo begun; sleep ${tag} ;; esac`)
    const members = lab.start([a, b, b], { multiInstanceSettings: { coordinationCommandLine: late } })
    await members[1]!.until('stdout.txt', 'begun')
    await lab.end(members)
    for (const { outcome } of members) expect(await outcome).toBeUndefined()
    expect(processesOf(tag)).toEqual([])
    expect(a.gangs.find(members[0]!.attempt)).toBeUndefined()
  })

  it('over its time limit is ended with it', async () => {
    const members = lab.start([a, b], { commandLine: sh('sleep 7305'), constraints: { maxWallClockTimeMs: 500 } })
    expect(await members[0]!.outcome).toMatchObject({ failureInfo: { code: 'MaxWallClockTimeExpiry' } })
    await lab.end(members)
  })
})

describe('a gang whose task has the name of a directory that the node has for the job', () => {
  it.each(['modules', 'threads-1', 'mpi-x'])('%s leaves it alone', async (task) => {
    const own = lab.tasks.directories.makeOwn(1, brief.jobId, task, undefined)
    writeFileSync(join(own, 'kept'), '')
    const [primary] = lab.start([a], {}, { attempt: { jobUid: 1, task, epoch: 1 } })
    expect(await primary!.outcome).toMatchObject({ exitCode: 0 })
    expect(existsSync(join(own, 'kept'))).toBe(true)
    await lab.tasks.directories.removeOwn(own)
  })
})

describe('a member that is found by its attempt', () => {
  it('runs programs in its place, beside its own', async () => {
    const members = lab.start([a, b], { commandLine: sh('until [ -e done ]; do sleep 0.01; done; cat note') })
    await until(() => members[0]!.said.includes('started'))
    const launch = async (at: number, text: string) => {
      const member = members[at]!.machine.gangs.find(members[at]!.attempt)!
      const files = { stdoutPath: `${member.paths.taskDir}/launched`, stderrPath: `${member.paths.taskDir}/launched-errors` }
      return await member.launch({ text, env: { greeting: 'hello' }, ...files }, new AbortController().signal)
    }
    expect(await launch(1, 'echo "$greeting $AZ_BATCH_IS_CURRENT_NODE_MASTER"; exit 8')).toBe(8)
    expect(members[1]!.read('launched')).toBe('hello false\n')
    expect(await launch(0, 'echo from beside >note')).toBe(0)
    writeFileSync(join(members[0]!.machine.gangs.find(members[0]!.attempt)!.paths.wd, 'done'), '')
    expect(await members[0]!.outcome).toMatchObject({ exitCode: 0 })
    expect(members[0]!.read('stdout.txt')).toBe('from beside\n')
    await lab.end(members)
  })

  it('is prepared before the command line starts', async () => {
    const one = lab.machine()
    const gate = Promise.withResolvers<void>()
    one.gangs.prepare = () => gate.promise
    const members = lab.start([one], {})
    await until(() => one.gangs.find(members[0]!.attempt) !== undefined)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(members[0]!.read('stdout.txt')).toBe('none')
    gate.resolve()
    expect(await members[0]!.outcome).toMatchObject({ exitCode: 0 })
  })
})
