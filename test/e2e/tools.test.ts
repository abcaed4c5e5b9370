/** What is set once, what happened, and what became of a job: on a real mesh, through a crash of its coordinator. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { MeshEvent } from '../../protocols/model/event.ts'
import { MeshLab } from './support/mesh-lab.ts'

describe('a mesh of one machine', () => {
  it('is started as a file and a variable say, follows its events through a crash, and reports on a job', async (t) => {
    const lab = await MeshLab.create(t)
    const file = join(lab.root, 'config.toml')
    await writeFile(file, '[up]\nlend-cpus = 1\nlabel = { room = "lab" }\nclass = "low-priority"\n')
    const set = { BATCHMESH_CONFIG: file, BATCHMESH_CLASS: 'dedicated' }
    const node = await lab.up('one', { env: set })
    expect(node.stdout).toContain('It lends 1 core and ')
    expect(node.stdout).toContain('as a dedicated machine with room=lab.\n')
    expect(JSON.parse(await readFile(join(node.dataDir, 'settings.json'), 'utf8'))).not.toHaveProperty('lendCpus')
    const shown = await lab.json(node, ['config', 'show', '--query', "[?setting=='class'].[value, source][]"], { env: set })
    expect(shown).toEqual(['dedicated', 'variable'])

    const follower = lab.spawn([join(import.meta.dirname, '../../bin/batchmesh'), 'events', '-f', '-o', 'json'], {
      env: { BATCHMESH_DATA: node.dataDir },
    })
    const told = () =>
      follower
        .stdout()
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line) as MeshEvent)
    const run = ['run', '--job-id', 'j', '--array', '0-3', 'test {index} != 2 || { echo no {index} >&2; exit 5; }']
    expect((await lab.cli(node, run)).code).toBe(1)
    await lab.until('the end of the job is told', () => told().some(({ kind }) => kind === 'job-ended'))
    await node.kill()
    const back = await lab.up('one')
    const report = await lab.cli(back, ['job', 'report', 'j', '--to', '-'])
    expect(report.stdout).toContain('<b>1 task: exit code 5</b>')
    expect(report.stdout).toContain('no 2')
    expect((await lab.cli(back, ['job', 'delete', 'j'])).code).toBe(0)
    await lab.until('the deletion of the job is told', () => told().some(({ kind }) => kind === 'job-deleted'))
    follower.child.kill('SIGINT')
    expect((await follower.exited).code).toBe(130)

    const events = told()
    expect(events.map(({ seq }) => seq)).toEqual(events.map((_, at) => at + 1))
    const kinds = events.map(({ kind }) => kind)
    expect(kinds.filter((kind) => kind === 'coordinator-started')).toHaveLength(2)
    expect(kinds).toEqual(
      expect.arrayContaining(['machine-joined', 'job-added', 'task-failed', 'job-ended', 'machine-connected', 'job-deleted']),
    )
  })
})
