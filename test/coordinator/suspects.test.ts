/** A machine on which every task fails at once (a black hole) does not eat the queue. */
import { beforeEach, describe, expect, it } from 'vitest'
import { explainTask } from '../../coordinator/explain.ts'
import { failuresToSuspect } from '../../coordinator/suspects.ts'
import { Scene } from '../support/scene.ts'

let scene: Scene

/** The machine claims and every task that it is given fails at once, as long as it is given any; how many there were. */
function eat(name: string, rounds: number, ranMs = 3): number {
  let eaten = 0
  for (let n = 0; n < rounds; n += 1) {
    const line = scene.claim(name, { slots: 2, waitMs: 0 }).find((each) => each.startsWith(`grant ${name}: j/`))
    const attempts = line?.replace(`grant ${name}: `, '').split(' ') ?? []
    for (const attempt of attempts) scene.report(name, attempt, 1, { startTime: scene.now - ranMs, endTime: scene.now })
    eaten += attempts.length
  }
  return eaten
}

beforeEach(() => {
  scene = new Scene()
  scene.hello('hole')
  scene.hello('good')
  scene.addJob({ id: 'j' })
  scene.addTasks('j', ...Array.from({ length: 200 }, (_, n) => `t${n}`))
})

const hole = () => scene.state.machines.get(scene.peer('hole'))!
const job = () => scene.state.jobIds.get('j')!

describe('a machine on which ten tasks of a job failed at once, one after the other', () => {
  it('gets one of its tasks every ten seconds, while another machine can run them', () => {
    expect(eat('hole', 100)).toBe(failuresToSuspect)
    scene.tick(9)
    expect(eat('hole', 5)).toBe(0)
    scene.tick(2)
    expect(eat('hole', 5)).toBe(1)
    scene.tick(60)
    expect(eat('hole', 5)).toBe(1)
  })

  it('is named with the reason to who asks why a task waits, and in the log', () => {
    eat('hole', 4)
    scene.claim('hole', { slots: 2, waitMs: 0 })
    const lines: string[] = []
    for (const attempt of ['j/t8#1', 'j/t9#1'])
      lines.push(...scene.report('hole', attempt, 1, { startTime: scene.now, endTime: scene.now }))
    expect(scene.effects.some((effect) => effect.kind === 'log' && effect.message.includes('hole failed the last 10 tasks'))).toBe(true)
    expect(explainTask(scene.state, job(), 't100', scene.now)!.details).toContainEqual(
      'hole: failed the last 10 tasks of the job within seconds each: it gets one at a time, every 10 s, until one succeeds',
    )
  })

  it('is trusted again after the first success', () => {
    eat('hole', 100)
    scene.tick(11)
    const line = scene.claim('hole', { slots: 2, waitMs: 0 }).at(-1)!
    scene.report('hole', line.replace('grant hole: ', ''), 0)
    expect(scene.claim('hole', { slots: 2, waitMs: 0 }).at(-1)).toMatch(/^grant hole: j\/\S+ j\/\S+$/)
  })

  it('is trusted after a task that took its time to fail', () => {
    eat('hole', 100)
    scene.tick(11)
    expect(eat('hole', 1, 6000)).toBe(1)
    expect(eat('hole', 3)).toBe(6)
  })

  it('gives back what it holds unstarted of the job', () => {
    eat('hole', 4)
    scene.claim('hole', { slots: 2, prefetch: 10, waitMs: 0 })
    const held = hole().leases.size
    expect(held).toBeGreaterThan(4)
    const [first, second] = [...hole().leases.values()].map((lease) => `j/${lease.task.id}#${lease.epoch}`)
    scene.started('hole', first!, second!)
    scene.report('hole', first!, 1, { startTime: scene.now, endTime: scene.now })
    expect(scene.report('hole', second!, 1, { startTime: scene.now, endTime: scene.now }).join('\n')).toContain('retract hole')
  })

  it('is not held back where every machine fails them: then it is the job', () => {
    eat('hole', 100)
    expect(eat('good', 100)).toBeGreaterThan(150)
    expect(eat('hole', 2)).toBe(0)
    expect(job().ready).toBe(0)
  })

  it('is not held back where no other machine can run them', () => {
    scene.gone('good', true)
    expect(eat('hole', 120)).toBe(200)
  })

  it('runs other jobs as before', () => {
    eat('hole', 100)
    scene.addJob({ id: 'k' })
    scene.addTasks('k', 'a', 'b')
    expect(scene.claim('hole', { slots: 2, waitMs: 0 }).at(-1)).toBe('grant hole: k/a#1 k/b#1')
  })
})
