import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { SubtaskView } from '../../protocols/model/subtask.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(async () => {
  lab = new Lab()
  await lab.run('job', 'create', 'flow')
  const solve = {
    id: 'solve',
    commandLine: 'true',
    multiInstanceSettings: { numberOfInstances: 3, coordinationCommandLine: 'true', mpi: 'openmpi' },
  }
  lab.files({ 'task.json': JSON.stringify(solve) })
  await lab.run('task', 'create', 'flow', '--json-file', 'task.json')
})
afterEach(() => lab.close())

function subtask(id: number, more: Partial<SubtaskView>): SubtaskView {
  const where = {
    poolId: 'p',
    nodeId: `tvm-${id}`,
    machine: `12D3KooWdesk${id}`,
    machineName: `desk${id}`,
    taskRootDirectory: `solve+${id}`,
  }
  return { id, nodeInfo: where, state: 'running', startTime: 1_700_000_000_000, ...more }
}

describe('task subtasks', () => {
  it('lists the members of a multi-instance task but the primary', async () => {
    const failureInfo = { category: 'usererror', code: 'FailureExitCode', message: 'exit code 3' } as const
    const items = [
      subtask(1, {}),
      subtask(2, { state: 'completed', endTime: 1_700_000_002_000, exitCode: 3, result: 'failure', failureInfo }),
    ]
    lab.mesh.extra.listSubtasks = () => ({ items })
    const { stdout } = await lab.run('task', 'subtasks', 'flow/solve')
    const [title, first, second] = stdout.split('\n')
    expect(title!.split(/ +/)).toEqual(['ID', 'STATE', 'RESULT', 'EXIT', 'MACHINE', 'NODE', 'STARTED', 'TOOK', 'FAILURE'])
    expect(first).toMatch(/^ *1 +running +desk1 +tvm-1/)
    expect(second).toMatch(/^ *2 +completed +failure +3 +desk2 +tvm-2 .* 2\.0s +FailureExitCode: exit code 3$/)
    expect(JSON.parse((await lab.run('task', 'subtasks', 'flow/solve', '-o', 'json')).stdout)).toEqual(items)
  })

  it('has the name that az batch gives it, too', async () => {
    lab.mesh.extra.listSubtasks = () => ({ items: [subtask(1, {})] })
    const { stdout } = await lab.run('task', 'subtask', 'list', '--job-id', 'flow', '--task-id', 'solve')
    expect(stdout).toMatch(/^ *1 +running +desk1 +tvm-1/m)
  })

  it('task show says how many there are, and of an ordinary task nothing', async () => {
    expect((await lab.run('task', 'show', 'flow/solve')).stdout).toMatch(
      /^instances: +3: the primary and 2 subtasks \(batchmesh task subtasks flow\/solve\)$/m,
    )
    await lab.run('task', 'create', 'flow/plain', '--command-line', 'true')
    expect((await lab.run('task', 'show', 'flow/plain')).stdout).not.toMatch(/instances/)
  })

  it('the MPI that members must agree about comes from the JSON file', () => {
    expect(lab.mesh.jobs.get('flow')!.tasks.get('solve')!.spec.multiInstanceSettings).toMatchObject({ mpi: 'openmpi' })
  })
})

describe('--subtask', () => {
  it.each([
    [['logs', 'flow/solve'], 'readTaskFile'],
    [['file', 'download', 'flow/solve', 'stdout.txt', '--destination', '-'], 'readTaskFile'],
    [['file', 'list', 'flow/solve'], 'listTaskFiles'],
  ])('of task %j asks for the files of that subtask', async (argv, call) => {
    const asked: unknown[] = []
    lab.mesh.extra.listTaskFiles = () => ({ files: [], more: false })
    lab.mesh.onCall = (name, request) => void (name === call && asked.push((request as { subtask?: number }).subtask))
    for (const more of [[], ['--subtask', '2']]) expect(await lab.run('task', ...argv, ...more)).toMatchObject({ code: 0 })
    expect(asked[0]).toBeUndefined()
    expect(asked.at(-1)).toBe(2)
  })

  it('that is no number is refused', async () => {
    expect(await lab.run('task', 'logs', 'flow/solve', '--subtask', 'two')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--subtask/),
    })
  })
})
