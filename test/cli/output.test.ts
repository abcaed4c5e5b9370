import { describe, expect, it } from 'vitest'
import { showBytes, showCapacity, showDuration, showTime } from '../../src/cli/format.ts'
import { type Column, table, tsv, tsvCell, visible } from '../../src/cli/output.ts'
import { Failures } from '../../src/cli/run/failures.ts'
import { findInputs, stagedPath } from '../../src/cli/run/inputs.ts'
import { Lab } from './lab.ts'

interface Row {
  id: string
  count: number
  note?: string
}
const columns: Column<Row>[] = [
  { title: 'id', value: (r) => r.id },
  { title: 'count', value: (r) => r.count, right: true },
  { title: 'note', value: (r) => r.note },
]
const rows: Row[] = [
  { id: 'a', count: 5, note: 'tab\there\nand line \\' },
  { id: 'long-name', count: 1000 },
]

describe('tables', () => {
  it('columns are aligned, numbers to the right, and a row stays a row', () => {
    expect(table(columns, rows)).toBe('ID         COUNT  NOTE\na              5  tab\\there\\nand line \\\nlong-name   1000\n')
  })

  it('lines are cut only where there is a width', () => {
    expect(table(columns, rows, 12)).toBe('ID         …\na          …\nlong-name  …\n')
  })

  it('marks that turn the direction of writing around cannot show a name as another', () => {
    expect(visible('rtl\u202etxt.exe \u2066a\u2069 caf\u00e9 \u{1f469}\u200d\u{1f52c}')).toBe(
      'rtl\\u202etxt.exe \\u2066a\\u2069 caf\u00e9 \u{1f469}\u200d\u{1f52c}',
    )
  })

  it('control characters in tab-separated values cannot reach the terminal either', () => {
    expect(tsvCell('a\tb\nc\rd\\e\u001b[2J')).toBe('a\\tb\\nc\\rd\\\\e\\x1b[2J')
  })

  it('control characters of a name cannot reach the terminal', () => {
    expect(table(columns, [{ id: '\u001b[2Jx', count: 1 }])).not.toContain('\u001b')
  })

  it('control characters cannot reach the terminal from wherever else they come', async () => {
    const lab = new Lab()
    try {
      const sequence = '\u001b]0;x\u0007'
      const shown = await lab.run('run', `echo "${sequence}"`, '--dry-run')
      expect(shown.stdout).toContain('\\x1b]0;x\\x07')
      lab.mesh.status = { ...lab.mesh.status, name: sequence, addresses: ['a', 'b'] }
      const status = await lab.run('status')
      expect(status.stdout).toMatch(/^node: +\\x1b\]0;x\\x07/m)
      expect(status.stdout).toMatch(/^addresses: +a\n +b$/m)
      const failed = await lab.run('run', `printf 'a\\tb \\033[2J' >&2; exit {index}`, '--array', '0-1')
      expect(failed.stderr).toContain('    a  b \\x1b[2J\n')
      const missing = await lab.run('job', 'show', sequence)
      expect(missing.stderr).toContain('\\x1b]0;x\\x07')
      for (const { stdout, stderr } of [shown, status, failed, missing]) expect(stdout + stderr).not.toMatch(/(?!\n)\p{Cc}/u)
    } finally {
      lab.close()
    }
  })

  it('TSV has the same columns with tabs and line breaks escaped', () => {
    expect(tsv(columns, rows)).toBe('id\tcount\tnote\na\t5\ttab\\there\\nand line \\\\\nlong-name\t1000\t\n')
  })
})

describe('how things are shown', () => {
  it('durations', () => {
    expect([5, 1500, 59_000, 61_000, 3_660_000, 172_800_000].map(showDuration)).toEqual(['5ms', '1.5s', '59s', '1m01s', '1h01m', '2d'])
  })

  it('times are local, with the date unless it is today', () => {
    const time = new Date(2026, 4, 6, 7, 8, 9)
    expect(showTime(time.getTime(), time)).toBe('07:08:09')
    expect(showTime(time.getTime(), new Date(2026, 4, 7))).toBe('2026-05-06 07:08:09')
    expect(showTime(undefined)).toBe('')
  })

  it('sizes and capacities', () => {
    expect(showBytes(1536)).toBe('1.5 KB')
    expect(showCapacity({ cores: 2, memoryMiB: 4096, gpus: 1 })).toBe('2 cores, 4 GiB, 1 GPU')
    expect(showCapacity({ cores: 1, memoryMiB: 0, gpus: 0 })).toBe('1 core')
  })
})

describe('failures', () => {
  const failed = (taskId: string, exitCode: number, stderrTail: string) => ({
    taskId,
    exitCode,
    stderrTail,
    state: 'completed' as const,
    epoch: 1,
    result: 'failure' as const,
    retryCount: 0,
    requeueCount: 0,
  })

  it('those that differ only in numbers and file names are one group, the largest first', () => {
    const failures = new Failures()
    failures.add(failed('0009', 139, ''))
    failures.add(failed('0001', 1, 'x\nframes/a.pov:12: no such texture'))
    failures.add(failed('0000', 1, 'y\nframes/b.pov:7: no such texture'))
    failures.add(failed('0002', 1, 'disk is full'))
    expect(failures.lines()).toEqual([
      '2 tasks failed: exit code 1 (0000, 0001)',
      '    x',
      '    frames/a.pov:12: no such texture',
      '1 task failed: exit code 139 (signal 11) (0009)',
      '1 task failed: exit code 1 (0002)',
      '    disk is full',
    ])
  })

  it.each([
    'mpirun was unable to launch the specified application as it could not access\nor execute an executable:\n\nExecutable: ./pi',
    '[proxy:0:0@m1] HYDU_create_process (utils/launch.c:73): execvp error on file ./pi (No such file or directory)',
  ])('of mpirun that finds no program say how to send one', (stderr) => {
    const failures = new Failures()
    failures.add(failed('batch', 134, stderr))
    expect(failures.lines().at(-1)).toContain('--with ./program')
  })
})

describe('where inputs are staged', () => {
  it('below the current directory they keep their relative path, from elsewhere their name', () => {
    expect(stagedPath('/w/frames/a.pov', '/w')).toBe('frames/a.pov')
    expect(stagedPath('/other/a.pov', '/w')).toBe('a.pov')
    expect(stagedPath('/w', '/w')).toBe('w')
    expect(stagedPath('/w/..a', '/w')).toBe('..a')
  })

  it('a file with glob characters in its name is taken as it is', async () => {
    await expect(findInputs(['no[1].txt'], undefined, '/nonexistent-directory', [])).rejects.toThrow('matches no file')
  })
})
