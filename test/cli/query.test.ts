import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(async () => {
  lab = new Lab()
  for (const id of ['a', 'b']) await lab.run('job', 'create', id, '--priority', id === 'a' ? '1' : '2')
})
afterEach(() => lab.close())

const list = (query: string, ...more: string[]) => lab.run('job', 'list', '--query', query, ...more)

describe('--query', () => {
  it('prints what it finds as JSON unless -o says otherwise', async () => {
    expect(JSON.parse((await list('[].id')).stdout)).toEqual(['a', 'b'])
    expect(JSON.parse((await list('[0].{id: id, first: priority}')).stdout)).toEqual({ id: 'a', first: 1 })
    expect((await list('[9].id')).stdout).toBe('null\n')
  })

  it('may stand before the command', async () => {
    expect((await lab.run('--query', 'length(@)', 'job', 'list')).stdout).toBe('2\n')
  })

  it('prints scalars and rows without titles as TSV, and nothing for nothing', async () => {
    expect((await list('[].id', '-o', 'tsv')).stdout).toBe('a\nb\n')
    expect((await list('[].[id, priority, displayName]', '-o', 'tsv')).stdout).toBe('a\t1\t\nb\t2\t\n')
    expect((await list('[].{id: id, p: priority}', '-o', 'tsv')).stdout).toBe('a\t1\nb\t2\n')
    expect((await list('[9].id', '-o', 'tsv')).stdout).toBe('')
    expect((await list('length(@)', '-o', 'tsv')).stdout).toBe('2\n')
  })

  it('prints rows with titles as a table', async () => {
    expect((await list('[].{id: id, p: priority}', '-o', 'table')).stdout).toBe('ID  P\na   1\nb   2\n')
    expect((await list('[].[id, counts]', '-o', 'table')).stdout).toMatch(/^COLUMN 1 {2}COLUMN 2\na {9}\{"active":0/)
  })

  it('sees one thing as an object, and what a command has done', async () => {
    expect((await lab.run('job', 'show', 'b', '--query', 'priority')).stdout).toBe('2\n')
    expect((await lab.run('job', 'stop', 'a', '--query', 'stopped', '-o', 'tsv')).stdout).toBe('a\n')
    expect((await lab.run('explain', 'x', '--query', 'summary', '-o', 'table')).stdout).toMatch(
      /^It waits for a machine with 64 cores\.\n$/,
    )
  })

  it('sees the result of a run, not its files', async () => {
    const ran = await lab.run('run', 'echo x > y', '--outputs', 'y', '--query', '[succeeded, length(outputs)]', '-o', 'tsv')
    expect(ran).toMatchObject({ code: 0, stdout: '1\n1\n' })
  })

  it.each([
    ['[].[', 'Syntax error'],
    ['foo(@)', 'there is no function foo'],
    ['', 'Syntax error'],
  ])('that reads %j is refused before anything is done', async (query, why) => {
    const ran = await lab.run('job', 'create', 'c', '--query', query)
    expect(ran).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(why) })
    expect(ran.stderr).toContain('--query')
    expect([...lab.mesh.jobs.keys()]).toEqual(['a', 'b'])
  })

  it('that meets values of a wrong type says so', async () => {
    expect(await list('abs([0].id)')).toMatchObject({ code: 2, stderr: expect.stringContaining('abs()') })
  })
})
