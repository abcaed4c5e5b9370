import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import type { JobSpec } from '../../protocols/model/job.ts'
import { poolSpecSchema } from '../../protocols/model/pool.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

const job = (id: string) => lab.mesh.jobs.get(id)!
const ids = (id: string) => [...job(id).tasks.keys()]
const failing = (...more: string[]) =>
  lab.run('run', '[ -e GATE ] || exit $(( {index} % 2 ))'.replace('GATE', `'${lab.cwd}/gate'`), '--array', '0-4', '--job-id', 'j', ...more)

describe('job rerun', () => {
  it('of a completed job runs its failed tasks as a new job, and waits for it', async () => {
    await failing('--outputs', '*.out', '-e', 'A=1')
    lab.files({ gate: '' })
    const again = await lab.run('job', 'rerun', 'j', '--failed')
    expect(again.code).toBe(0)
    expect(again.stderr).toMatch(/2 tasks run again, as job j-r2\.[\s\S]*2 succeeded, 0 failed \(job j-r2\)/)
    expect(ids('j-r2')).toEqual(['0001', '0003'])
    expect(job('j-r2').tasks.get('0001')!.spec).toEqual(job('j').tasks.get('0001')!.spec)
    expect(job('j-r2')).toMatchObject({ state: 'completed' })
    expect(job('j-r2').spec.metadata).toEqual(expect.arrayContaining(job('j').spec.metadata!))
  })

  it('of a job whose pool went with it is refused, and adds no job', async () => {
    await failing()
    job('j').spec.poolId = 'own'
    const { code, stderr } = await lab.run('job', 'rerun', 'j', '--failed')
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^batchmesh: The pool own of job j is not there any more; .* pool create own …/),
    ])
    expect([...lab.mesh.jobs.keys()]).toEqual(['j'])
    lab.mesh.pools.set('own', poolSpecSchema.parse({ id: 'own', vmSize: 'cores=1' }))
    expect((await lab.run('job', 'rerun', 'j', '--failed', '-d')).code).toBe(0)
    expect(job('j-r2').spec.poolId).toBe('own')
  })

  it('once more takes the next name', async () => {
    await failing()
    await lab.run('job', 'rerun', 'j', '--failed', '-q')
    await lab.run('job', 'rerun', 'j-r2', '--failed', '-q')
    const third = await lab.run('job', 'rerun', 'j', '--all', '-d')
    expect(third).toMatchObject({ code: 0, stdout: '5 tasks run again, as job j-r4.\n' })
    expect([...lab.mesh.jobs.keys()]).toEqual(['j', 'j-r2', 'j-r3', 'j-r4'])
    expect(ids('j-r4')).toHaveLength(5)
  })

  it('of an active job runs them in the job itself', async () => {
    await lab.run('job', 'create', 'a')
    await lab.run('task', 'create', 'a', '--array', '0-4', '--command-line', `sh -c "[ -e '${lab.cwd}/gate' ] || exit {index}"`)
    await lab.run('job', 'wait', 'a')
    lab.files({ gate: '' })
    const again = await lab.run('job', 'rerun', 'a', '--failed')
    expect(again.code).toBe(0)
    expect(again.stderr).toMatch(/4 tasks run again in job a\.[\s\S]*5 succeeded, 0 failed \(job a\)/)
    expect([...lab.mesh.jobs.keys()]).toEqual(['a'])
  })

  it('says when nothing has failed', async () => {
    await lab.run('run', 'true', '--job-id', 'good')
    expect(await lab.run('job', 'rerun', 'good', '--failed')).toMatchObject({
      code: 0,
      stdout: 'No task of job good has failed. Nothing is run again.\n',
    })
  })

  it('takes what never ran with what failed, and says so', async () => {
    lab.mesh.gateOf = (taskId) => (taskId > '0001' ? new Promise(() => {}) : undefined)
    await failing('--max-fails', '1')
    lab.mesh.gateOf = () => undefined
    lab.files({ gate: '' })
    const again = await lab.run('job', 'rerun', 'j', '--failed')
    expect(again.stderr).toMatch(/3 of them never ran/)
    expect(ids('j-r2')).toEqual(['0001', '0002', '0003', '0004'])
  })

  it('leaves out dependencies on tasks that are not run again', async () => {
    await lab.run('job', 'create', 'd', '--uses-task-dependencies', '--on-all-tasks-complete', 'noaction')
    const add = (id: string, command: string, ...more: string[]) => lab.run('task', 'create', `d/${id}`, '--command-line', command, ...more)
    for (const id of ['1', '2', 'x']) await add(id, 'true')
    for (const id of ['3', 'y']) await add(id, 'false')
    await add('z', 'false', '--depends-on', '1-3,x,y')
    await add('w', 'false', '--depends-on', '1-2,x')
    await lab.run('job', 'wait', 'd')
    await lab.run('job', 'stop', 'd')
    await lab.run('job', 'rerun', 'd', '--failed', '-d')
    expect(ids('d-r2')).toEqual(['3', 'y', 'z', 'w'])
    expect(job('d-r2').tasks.get('z')!.spec.dependsOn).toEqual({ taskIds: ['y'], taskIdRanges: [{ start: 3, end: 3 }] })
    expect(job('d-r2').tasks.get('w')!.spec.dependsOn).toBeUndefined()
  })

  it('does not make a second job when an answer was lost', async () => {
    await failing()
    let isBroken = false
    lab.mesh.onCall = (name, request) => {
      if (name !== 'addJob' || isBroken) return
      isBroken = true
      const spec = request as JobSpec
      lab.mesh.jobs.set(spec.id, { spec, uid: 99, state: 'active', tasks: new Map() })
      throw new MeshError('Unreachable')
    }
    await lab.run('job', 'rerun', 'j', '--failed', '-d')
    expect([...lab.mesh.jobs.keys()]).toEqual(['j', 'j-r2'])
    expect(ids('j-r2')).toHaveLength(2)
  })

  it('brings outputs with --to, and a later run --resume finds what it did', async () => {
    lab.files({ 'a.x': 'A', 'b.x': 'B' })
    const words = [
      'run',
      `[ {name} = a ] || [ -e '${lab.cwd}/gate' ] && cp {input} {name}.out`,
      '--inputs',
      '*.x',
      '--outputs',
      '*.out',
      '--to',
      'out',
    ]
    await lab.run(...words, '--job-id', 'j')
    lab.files({ gate: '' })
    await lab.run('job', 'rerun', 'j', '--failed', '--to', 'out')
    expect(lab.list('out')).toEqual(['a.out', 'b.out'])
    expect((await lab.run(...words, '--resume')).stderr).toMatch(/All 2 tasks had succeeded before\./)
  })

  it.each([
    [['j'], /Say which tasks run again: --failed, or --all/],
    [['j', '--failed', '--all'], /Say which/],
    [[], /Name the job/],
    [['j', '--failed', '--detach', '--to', 'out'], /Leave out --detach/],
  ])('%j is wrong usage', async (more, message) => {
    expect(await lab.run('job', 'rerun', ...more)).toMatchObject({ code: 2, stderr: expect.stringMatching(message) })
  })

  it('of more tasks than can be sent one by one is refused before any is read', async () => {
    await failing()
    const view = lab.mesh.view.bind(lab.mesh)
    lab.mesh.view = (jobId) => ({ ...view(jobId), counts: { active: 1_000_000, running: 0, completed: 5, succeeded: 4, failed: 1 } })
    expect(await lab.run('job', 'rerun', 'j', '--failed')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/1000001 tasks of job j would run again.*at most 1000000.*--resume/),
    })
    expect([...lab.mesh.jobs.keys()]).toEqual(['j'])
  })

  it('of all tasks of an active job is refused', async () => {
    await lab.run('job', 'create', 'a')
    expect(await lab.run('job', 'rerun', 'a', '--all')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/a is active.*batchmesh job stop a/),
    })
  })
})
