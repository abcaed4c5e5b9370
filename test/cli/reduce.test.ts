import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

const onlyJob = () => [...lab.mesh.jobs.values()][0]!
const manyParts = 'for i in $(seq -w 4000); do echo $i > part-$i-of-a-run-with-many-parts.txt; done'

describe('the reduce step', () => {
  it('gets outputs of any number, under their paths', async () => {
    const ran = await lab.run(
      'run',
      manyParts,
      '--outputs',
      '*.txt',
      '--reduce',
      'cat part-*.txt | sort -u | wc -l',
      '--reduce-outputs',
      'none',
    )
    expect(ran).toMatchObject({ code: 0, stdout: expect.stringMatching(/^4000\n/) })
    expect(onlyJob().tasks.get('reduce')!.spec.resourceFiles).toEqual([{ filePath: '.', blob: expect.any(String) }])
  })

  it('that gets many outputs makes none of those that it leaves as they were', async () => {
    const ran = await lab.run('run', manyParts, '--outputs', '*.txt', '--reduce', 'echo all > all', '-o', 'json')
    const { outputs } = JSON.parse(ran.stdout) as { outputs: { taskId: string; path: string }[] }
    expect(outputs.filter(({ taskId }) => taskId === 'reduce').map(({ path }) => path)).toEqual(['all'])
  })

  it('that has run is the only one whose outputs are listed for people', async () => {
    const words = [
      'run',
      'echo x > {index}.txt',
      '--array',
      '0-4',
      '--outputs',
      '*.txt',
      '--reduce',
      'echo all > all',
      '--reduce-outputs',
      'all',
    ]
    const ran = await lab.run(...words)
    expect(ran.stdout.trim().split('\n')).toEqual([expect.stringMatching(/^TASK/), expect.stringMatching(/^reduce +all/)])
    expect(ran.stderr).toMatch(/outputs of the other tasks stay in the mesh\. To write them: batchmesh job wait run-\S+ --to DIR/)
    const { outputs } = JSON.parse((await lab.run(...words, '-o', 'json')).stdout) as { outputs: unknown[] }
    expect(outputs).toHaveLength(6)
  })

  it('that is refused leaves the outputs listed, says why, and ends the job', async () => {
    lab.mesh.onCall = (name, request) => {
      if (name === 'addTasks' && (request as { tasks: { id: string }[] }).tasks[0]!.id === 'reduce')
        throw new MeshError('InvalidPropertyValue', 'It is too large.')
    }
    const ran = await lab.run('run', 'echo x > a.txt', '--outputs', '*.txt', '--reduce', 'true')
    expect(ran).toMatchObject({ code: 1, stdout: expect.stringMatching(/0000 +a\.txt/) })
    expect(ran.stderr).toMatch(/The reduce step is not run: .*too large/)
    expect(onlyJob()).toMatchObject({ state: 'completed', reason: 'ReduceNotRun' })
  })

  it('does not run without an output that was not taken', async () => {
    lab.mesh.reported = (outputs) => outputs.map((output) => ({ ...output, path: 'other' }))
    const ran = await lab.run('run', 'echo x > a.txt', '--outputs', '*.txt', '--reduce', 'true')
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringMatching(/The reduce step is not run: .* reported an output other/) })
    expect(onlyJob().state).toBe('completed')
  })

  it('does not run where a file of one task and a directory of another have the same name', async () => {
    const make = 'if [ {index} = 0 ]; then echo > a; else mkdir a; echo > a/b; fi'
    const ran = await lab.run('run', make, '--array', '0-1', '--outputs', '**', '--reduce', 'true')
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringMatching(/task 0000 made a file a, and task 0001 a directory/) })
    expect(onlyJob().state).toBe('completed')
  })
})

describe('a submission that fails', () => {
  it('leaves no job behind', async () => {
    lab.mesh.onCall = (name) => {
      if (name === 'addTasks') throw new MeshError('InvalidPropertyValue', 'No.')
    }
    expect(await lab.run('run', 'true')).toMatchObject({ code: 2, stderr: 'batchmesh: No.\n' })
    expect(onlyJob()).toMatchObject({ state: 'completed', reason: 'SubmissionFailed' })
  })

  it('does not end the job of somebody else who took the name first', async () => {
    lab.mesh.onCall = (name) => {
      if (name !== 'addJob') return
      lab.mesh.onCall = () => {}
      throw new MeshError('JobExists', 'There is a job mine already.')
    }
    await lab.run('run', 'true', '--job-id', 'mine')
    expect(lab.mesh.asked).not.toContain('terminateJob')
  })
})

describe('interrupted while the job is being added', () => {
  const interrupted = (...more: string[]) => {
    lab.mesh.gate = new Promise(() => {})
    lab.mesh.onCall = (name) => void (name === 'addJob' && lab.interrupt())
    return lab.run('run', 'true', ...more)
  }
  it('a run stops it', async () => {
    const ran = await interrupted()
    expect(ran).toMatchObject({ code: 130, stderr: expect.stringMatching(/interrupted; job run-\S+ is being stopped/) })
    expect(onlyJob().state).toBe('completed')
  })
  it('a run of a given name says that it may be there', async () => {
    const ran = await interrupted('--job-id', 'mine')
    expect(ran).toMatchObject({ code: 130, stderr: expect.stringMatching(/while job mine was being submitted; .* job show mine/) })
  })
})

describe('the job of a run', () => {
  it.each([
    [[], 7 * 86_400_000],
    [['--retention', '1h'], 3_600_000],
    [['--job-id', 'mine'], undefined],
    [['--job-id', 'mine', '--retention', '1h'], 3_600_000],
  ])('with %j is kept for %s ms after its end', async (options, retentionTimeMs) => {
    await lab.run('run', 'true', ...options)
    expect(onlyJob().spec.retentionTimeMs).toBe(retentionTimeMs)
  })

  it('with a retention that is no duration is wrong usage', async () => {
    expect((await lab.run('run', 'true', '--retention', 'soon')).code).toBe(2)
    expect(lab.mesh.asked).toEqual([])
  })
})
