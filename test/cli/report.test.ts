import { readdirSync } from 'node:fs'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type JobView, jobSpecSchema } from '../../protocols/model/job.ts'
import { type AttemptEnd, type TaskView, taskSpecSchema } from '../../protocols/model/task.ts'
import { page } from '../../src/cli/report/page.ts'
import { Tally } from '../../src/cli/report/tally.ts'
import { Lab } from './lab.ts'

const begin = 1_780_000_000_000
const peer = 'peer-of-machine-one'

interface TaskInput {
  from: number
  to?: number
  ends?: (AttemptEnd | undefined)[]
  exitCode?: number
  node?: string
  command?: string
  stderrTail?: string
  cores?: number
}

/** A task whose attempts follow each other between two seconds. */
function task(
  id: string,
  { from, to, ends = ['success'], exitCode, node = 'n1', command = 'true', stderrTail, cores }: TaskInput,
): TaskView {
  const end = ends.at(-1)
  const step = ((to ?? from) - from) / ends.length
  const isOver = end === 'success' || end === 'failure'
  return {
    ...taskSpecSchema.parse({ id: 'x', commandLine: command, ...(cores === undefined ? {} : { resources: { cores } }) }),
    id,
    jobId: 'j',
    state: isOver ? 'completed' : end === undefined ? 'running' : 'active',
    creationTime: begin,
    stateTransitionTime: begin,
    executionInfo: {
      startTime: begin + from * 1000,
      endTime: isOver ? begin + (to ?? from) * 1000 : undefined,
      exitCode: exitCode ?? (end === 'success' ? 0 : undefined),
      result: isOver ? end : undefined,
      retryCount: 0,
      requeueCount: 0,
    },
    nodeInfo: { poolId: 'default', nodeId: node, machine: peer, machineName: 'one', taskRootDirectory: '' },
    outputs: [],
    stderrTail,
    attempts: ends.map((one, at) => ({
      epoch: at + 1,
      machine: peer,
      nodeId: node,
      grantTime: begin,
      startTime: begin + (from + at * step) * 1000,
      endTime: one === undefined ? undefined : begin + (from + (at + 1) * step) * 1000,
      end: one,
      exitCode,
    })),
  }
}

function job(more: Partial<JobView> = {}): JobView {
  const counts = { active: 0, running: 0, completed: 1, succeeded: 1, failed: 0 }
  const about = { uid: 1, state: 'completed' as const, creationTime: begin, stateTransitionTime: begin, counts, excludedMachines: [] }
  return { ...jobSpecSchema.parse({ id: 'j' }), ...about, ...more }
}

function report(tasks: Iterable<TaskView>, more: Partial<JobView> = {}, machine = 'one'): string {
  const now = begin + 100_000
  const nodes = ['n1', 'n2'].map((id) => ({ id, machine, slots: 2 }))
  const tally = new Tally({ now, nodes, machines: new Map([[peer, machine]]), coresPerSlot: 1 })
  for (const one of tasks) tally.add(one)
  return page({ job: job({ endTime: now, ...more }), tally, slots: 4, now, meshId: 'm' })
}

/** Tags with the names of their attributes; throws where one is left open. */
function tagsOf(html: string): string[] {
  const open: string[] = []
  const tags: string[] = []
  const body = html.replace(/<style>[^<]*<\/style>/, '')
  for (const [, closing, name = '', attributes = '', empty] of body.matchAll(/<(\/?)([!\w][\w-]*)((?:"[^"]*"|[^">])*?)(\/?)>/g)) {
    if (closing === '/') {
      if (open.pop() !== name) throw new Error(`</${name}> closes nothing`)
    } else if (empty !== '/' && name !== '!doctype' && name !== 'meta') open.push(name)
    tags.push(
      `${closing}${name} ${[...attributes.replaceAll(/"[^"]*"/g, '').matchAll(/\s([\w:-]+)(?==)/g)].map((match) => match[1]).join(' ')}`,
    )
  }
  if (open.length > 0) throw new Error(`left open: ${open.join(' ')}`)
  return tags
}

const cards = (html: string) =>
  [...html.matchAll(/<div class="card"><b>(.*?)<\/b><span>(.*?)<\/span>/g)].map((match) => `${match[1]} ${match[2]}`)
const bars = (html: string) =>
  [...html.matchAll(/<rect class="([\w-]+)"[^>]*><title>([^<]*)/g)].map((match) => match.slice(1, 3).join(': '))

describe('a report', () => {
  it('says totals, CPU-hours and how busy the slots were', () => {
    const html = report([
      task('a', { from: 0, to: 3600, cores: 3 }),
      task('b', { from: 0, to: 3600, ends: ['failure'], exitCode: 1 }),
      task('c', { from: 0, to: 7200, ends: ['lost', 'success'] }),
    ])
    expect(cards(html)).toEqual([
      '2 of 3 tasks succeeded',
      '1 failed',
      '1m40s from submission to end',
      '6 CPU-hours: wall time × cores of a task',
      '33 % of them in attempts that did not succeed',
      '2 slots busy on average, 3 at most, of 4',
    ])
  })

  it('shows each attempt as a bar of its end, where there are few', () => {
    const html = report([
      task('a', { from: 0, to: 10, ends: ['lost', 'success'] }),
      task('b', { from: 5, to: 10, ends: ['failure'], exitCode: 3, node: 'n2' }),
      task('c', { from: 5, ends: [undefined], node: 'gone' }),
    ])
    expect(bars(html)).toEqual([
      'lost: a: lost with its machine, 5.0s, from 0ms',
      'success: a (attempt 2): succeeded, 5.0s, from 5.0s',
      'failure: b: failed, 5.0s, from 5.0s',
      'running: c: running, 1m35s, from 5.0s',
    ])
    expect(html).toContain('not in the pool now')
  })

  it('adds up what would be thinner than a pixel, keeps every bad end in sight, and stays small', () => {
    function* many() {
      for (let at = 0; at < 100_000; at += 1) {
        const bad = at === 50_000
        const [from, node] = [at / 1000, at % 2 === 0 ? 'n1' : 'n2']
        yield task(`t${at}`, { from, to: from + 0.001, node, ends: [bad ? 'failure' : 'success'], exitCode: bad ? 9 : 0 })
      }
    }
    const html = report(many())
    tagsOf(html)
    expect(bars(html)).toEqual([])
    expect(html.match(/<path class="success"/g)).toHaveLength(3)
    expect(html).toMatch(/<rect class="failure" x="5\d\d/)
    expect(html.length).toBeLessThan(200_000)
  })

  it('groups failures that are alike, with a task, its command and how to see more', () => {
    const html = report([
      ...Array.from({ length: 20 }, (_, at) =>
        task(`t${at}`, {
          from: at,
          to: at + 1,
          ends: ['failure'],
          exitCode: 2,
          command: `sh -c 'render < ${at}'`,
          stderrTail: `frame ${at}: no <texture>\n`,
        }),
      ),
      task('odd', { from: 1, to: 2, ends: ['failure'], exitCode: 139 }),
    ])
    expect(html.match(/class="group"/g)).toHaveLength(2)
    expect(html).toContain('<b>20 tasks: exit code 2</b>')
    expect(html).toContain('<code>render &lt; 0</code>')
    expect(html).toContain('frame 0: no &lt;texture&gt;')
    expect(html).toContain('and 12 more')
    expect(html).toContain('<code>batchmesh task logs j/t0 --stderr</code>')
    expect(html).toContain('<b>1 task: exit code 139 (signal 11)</b>')
  })

  it('lists slow tasks, tasks that ran more than once, and machines left out', () => {
    const html = report(
      [
        task('quick', { from: 0, to: 1 }),
        task('slow', { from: 0, to: 50 }),
        task('again', { from: 0, to: 9, ends: ['preempted', 'lost', 'success'] }),
      ],
      { excludedMachines: [{ machine: peer, name: 'one', reason: 'no povray' }] },
    )
    const slow = /Slowest tasks[\s\S]*/.exec(html)![0]
    expect([...slow.matchAll(/<tr><td>(\w+)<\/td>/g)].map((match) => match[1])).toEqual(['slow', 'again', 'quick', 'again'])
    expect(html).toContain('preempted, lost with its machine, succeeded')
    expect(html).toContain('<td>one</td><td>no povray</td>')
  })

  it('of a job without tasks, or that runs, says what is known', () => {
    expect(tagsOf(report([])).length).toBeGreaterThan(10)
    const live = report([task('a', { from: 0, ends: [undefined] })], { state: 'active', endTime: undefined })
    expect(live).toContain('<span class="badge live">running</span>')
    expect(live).toContain('the job was still active then')
  })

  it('asks for nothing from anywhere, and runs nothing', () => {
    const html = report([task('a', { from: 0, to: 1 })])
    expect(html).not.toMatch(/<script|<link|<img|src=|href=|url\(|@import|https?:/)
    expect(html).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`)
  })

  it('has the same elements whatever users and machines call things', () => {
    const name = fc.oneof(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 30 }),
      fc.constantFrom(
        '</style><script>alert(1)</script>',
        '"><img src=x onerror=alert(1)>',
        "' onload='x",
        '<!--',
        '&lt;',
        ']]>',
        '\u0000\u001b[2J',
        '</title>',
      ),
    )
    const make = (text: string, words = `run ${text}`) =>
      report(
        [
          { ...task(text, { from: 0, to: 9, ends: ['failure'], exitCode: 1, stderrTail: text }), commandLine: words },
          { ...task(text, { from: 10, to: 19, ends: ['lost', 'success'] }), commandLine: words },
        ],
        {
          id: text,
          displayName: text,
          poolId: text,
          submitter: text,
          terminateReason: text,
          excludedMachines: [{ machine: peer, name: text, reason: text }],
        },
        text,
      )
    const plain = tagsOf(make('plain'))
    fc.assert(
      fc.property(name, (text) => {
        const html = make(text)
        const isBlank = text.trim() === ''
        if (!isBlank) expect(tagsOf(html)).toEqual(plain)
        expect(html).not.toMatch(/<script|<img|<!--/)
        expect(html.replaceAll(/[\t\n\r]/g, '')).not.toMatch(/\p{Cc}(?<![\u007f-\u009f])/u)
      }),
    )
  })
})

describe('job report', () => {
  let lab: Lab
  beforeEach(() => {
    lab = new Lab()
    lab.mesh.extra.getPool = () => ({ ...pool, id: 'default' })
    lab.mesh.extra.listNodes = () => ({ items: [] })
    lab.mesh.extra.listMachines = () => ({ items: [] })
  })
  afterEach(() => lab.close())
  const none = { cores: 0, memoryMiB: 0, gpus: 0 }
  const counts = {
    currentDedicatedNodes: 0,
    currentLowPriorityNodes: 0,
    creationTime: 0,
    allocationStateTransitionTime: 0,
    pendingTasks: 0,
    runningTasks: 0,
  }
  const pool = {
    vmSize: 'machine',
    state: 'active' as const,
    allocationState: 'steady' as const,
    nodeSize: none,
    resizeErrors: [],
    ...counts,
  }

  it('writes a file of its own, or where it is told, or to standard output', async () => {
    await lab.run('run', '--job-id', 'j', '-q', 'exit 3')
    expect(await lab.run('job', 'report', 'j')).toMatchObject({ code: 0, stdout: expect.stringMatching(/j-report\.html\n$/) })
    expect(lab.read('j-report.html')).toContain('<b>1 task: exit code 3</b>')
    const ran = await lab.run('job', 'report', 'j', '--to', 'a.html', '-o', 'json')
    expect(JSON.parse(ran.stdout)).toMatchObject({ jobId: 'j', tasks: 1, failed: 1, file: expect.stringMatching(/a\.html$/) })
    expect((await lab.run('job', 'report', 'j', '--to', '-')).stdout).toMatch(/^<!doctype html>[\s\S]*<\/html>\n$/)
  })

  it('leaves nothing behind when there is no such job or the file cannot be written', async () => {
    expect(await lab.run('job', 'report', 'nothing')).toMatchObject({ code: 1, stderr: expect.stringContaining('no job nothing') })
    await lab.run('job', 'create', 'j')
    expect(await lab.run('job', 'report', 'j', '--to', 'no/such/r.html')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('no/such'),
    })
    expect(readdirSync(lab.cwd)).toEqual([])
  })
})
