import { afterAll, beforeAll, describe, expect, it } from 'vitest'
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
})
