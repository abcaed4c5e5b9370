import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import type { MeshEvent } from '../../protocols/model/event.ts'
import { Lab } from './lab.ts'

let lab: Lab
let kept: MeshEvent[] = []
beforeEach(() => {
  lab = new Lab()
  kept = []
  lab.mesh.extra.listEvents = ({ after = 0, since = 0, jobId, limit }) => {
    const fit = kept.filter((event) => event.seq > after && event.time >= since && (jobId === undefined || event.jobId === jobId))
    const items = fit.slice(0, Math.min(limit, 3))
    return { items, last: items.at(-1)?.seq ?? Math.max(after, kept.at(-1)?.seq ?? 0), missed: 0 }
  }
})
afterEach(() => lab.close())

function happen(kind: string, more: Partial<MeshEvent> = {}): void {
  const seq = kept.length + 1
  kept.push({ seq, time: Date.now(), kind, message: `what ${seq}`, ...more })
}

const numbers = (text: string) => (JSON.parse(text) as MeshEvent[]).map(({ seq }) => seq)

describe('events', () => {
  it('are shown oldest first, as many as asked, from all pages', async () => {
    for (let i = 0; i < 8; i += 1) happen('job-added', { jobId: i % 2 === 0 ? 'a' : 'b', time: i < 4 ? 1 : Date.now() })
    expect(numbers((await lab.run('events', '-o', 'json')).stdout)).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
    expect(numbers((await lab.run('events', '-o', 'json', '--limit', '2')).stdout)).toEqual([7, 8])
    expect(numbers((await lab.run('events', '-o', 'json', '--limit', '0')).stdout)).toEqual([])
    expect(numbers((await lab.run('events', '-o', 'json', '--since', '1h')).stdout)).toEqual([5, 6, 7, 8])
    expect(numbers((await lab.run('events', '-o', 'json', '--job-id', 'b')).stdout)).toEqual([2, 4, 6, 8])
  })

  it('are a line each, and control characters in them do nothing', async () => {
    happen('machine-joined', { machineName: 'one', message: 'one\n\u001b[2Jjoined' })
    expect((await lab.run('events')).stdout).toMatch(/^TIME +EVENT +WHAT\n\d\d:\d\d:\d\d +machine-joined +one\\n\\x1b\[2Jjoined\n$/)
    expect((await lab.run('events', '-o', 'tsv')).stdout.split('\n')).toHaveLength(3)
  })

  it.each([
    ['--since', 'yesterday'],
    ['--limit', '-1'],
    ['--limit', 'x'],
  ])('%s %s is refused', async (...words) => {
    expect(await lab.run('events', ...words)).toMatchObject({ code: 2, stdout: '' })
  })
})

describe('events --follow', () => {
  it('goes on with an object a line, through cuts, none lost and none doubled', async () => {
    happen('job-added')
    const answer = lab.mesh.extra.listEvents!
    let calls = 0
    lab.mesh.extra.listEvents = (request, context) => {
      calls += 1
      // the past, its end, then one by one; each third call meets a mesh that is out of reach
      if (calls > 2) {
        if (kept.length >= 7) lab.interrupt()
        else happen('task-failed')
        if (calls % 3 === 0) throw new MeshError('NoCoordinator')
      }
      return answer(request, context)
    }
    const ran = await lab.run('events', '-f', '-o', 'json')
    expect(ran.code).toBe(130)
    const lines = ran.stdout.trimEnd().split('\n')
    expect(lines.map((line) => (JSON.parse(line) as MeshEvent).seq)).toEqual([1, 2, 3, 4, 5, 6, 7])
    expect(ran.stderr).toMatch(/connected again/)
  })

  it('applies a query to each, and says when some were not kept', async () => {
    happen('job-added', { jobId: 'x' })
    const answer = lab.mesh.extra.listEvents!
    let calls = 0
    lab.mesh.extra.listEvents = async (request, context) => {
      calls += 1
      if (calls > 3) lab.interrupt()
      const page = await answer(request, context)
      return { ...page, missed: calls === 3 ? 12 : 0 }
    }
    const ran = await lab.run('events', '-f', '--query', '[jobId, kind]')
    expect(ran.stdout).toBe('["x","job-added"]\n')
    expect(ran.stderr).toContain('12 events were not kept')
    calls = 0
    expect((await lab.run('events', '-f', '-o', 'tsv')).stdout).toMatch(/^1\t\S+\tjob-added\tx\t/)
  })
})
