import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

describe('a list of inputs on standard input', () => {
  it('has one name a line, and may stand beside globs', async () => {
    lab.files({ 'a b.x': 'A', 'sub/c.x': 'C', 'd.y': 'D' })
    lab.stdin = 'sub/c.x\r\n\na b.x\nsub/c.x\n'
    const ran = await lab.run('run', 'cat {input}; echo " {index}"', '--inputs', '*.y', '--inputs', '-', '--stdout')
    expect(ran.code).toBe(0)
    expect(ran.stdout.split('\n').sort()).toEqual(['', 'A 2', 'C 1', 'D 0'])
  })

  it('has NUL between its names with -0, and then a name may hold anything', async () => {
    lab.files({ 'new\nline.x': 'N', 'b.x': 'B' })
    lab.stdin = 'new\nline.x\0b.x\0'
    const ran = await lab.run('run', 'cat {input}', '--inputs', '-', '-0', '--stdout')
    expect(ran).toMatchObject({ code: 0, stdout: expect.stringMatching(/^(NB|BN)$/) })
  })

  it.each([
    ['', [], /standard input named no file/],
    ['a.x\nnone.x\n', [], /none\.x, number 2 on standard input, is not there/],
    ['sub\n', [], /sub, number 1 on standard input, is no file/],
    ['a.x\0sub/c\0', [], /holds NUL bytes. If they separate the names, add --null/],
  ])('%j is refused', async (stdin, more, message) => {
    lab.files({ 'a.x': '1', 'sub/c': '2' })
    lab.stdin = stdin
    expect(await lab.run('run', 'cat {input}', '--inputs', '-', ...more)).toMatchObject({ code: 2, stderr: expect.stringMatching(message) })
    expect(lab.mesh.asked).toEqual([])
  })
})

describe('a table', () => {
  const reads = { 'reads/s1_1.fq': 'a', 'reads/s1_2.fq': 'b', 'reads/s2_1.fq': 'c', 'reads/s2_2.fq': 'd' }
  const samples = 'sample\tr1\tr2\nS1\treads/s1_1.fq\treads/s1_2.fq\nS 2\treads/s2_1.fq\treads/s2_2.fq\n'

  it('makes one task a row, with the files that the row names', async () => {
    lab.files({ ...reads, 'samples.tsv': samples })
    const words = [
      'cat {r1} {r2} > {sample}.sam; echo $TAG >> {sample}.sam',
      '--table',
      'samples.tsv',
      '--inputs',
      '{r1}',
      '--inputs',
      '{r2}',
    ]
    const ran = await lab.run('run', ...words, '--outputs', '{sample}.sam', '--to', 'out/{sample}/', '--env', 'TAG=of {sample}/{index}')
    expect(ran).toMatchObject({ code: 0, stdout: '' })
    expect(lab.list('out')).toEqual(['S 2', 'S 2/S 2.sam', 'S1', 'S1/S1.sam'])
    expect(lab.read('out/S 2/S 2.sam')).toBe('cdof S 2/1\n')
    const { tasks } = [...lab.mesh.jobs.values()][0]!
    expect([...tasks.keys()]).toEqual(['0000', '0001'])
    expect(tasks.get('0001')!.spec.resourceFiles?.map(({ filePath }) => filePath)).toEqual(['reads/s2_1.fq', 'reads/s2_2.fq'])
  })

  it('a column that --inputs names stands for the file as the task sees it, wherever it lies here', async () => {
    const elsewhere = new Lab()
    elsewhere.files({ 'x.fq': 'X' })
    lab.files({ 't.csv': `file,n\n${elsewhere.cwd}/x.fq,5\n` })
    const ran = await lab.run('run', 'echo $(cat {file}) {file} {input} {n}', '--table', 't.csv', '--inputs', '{file}')
    elsewhere.close()
    expect(ran).toMatchObject({ code: 0, stdout: 'X x.fq x.fq 5\n' })
  })

  it('a row may leave the cell of a file empty', async () => {
    lab.files({ 'a.fq': 'A', 'b.fq': 'B', 't.csv': 'r1,r2\na.fq,\na.fq,b.fq\n' })
    const ran = await lab.run(
      'run',
      'cat {r1} {r2} </dev/null 2>&1 || true; echo; ls',
      '--table',
      't.csv',
      '--inputs',
      '{r1}',
      '--inputs',
      '{r2}',
      '-q',
    )
    expect(ran.code).toBe(0)
    const { tasks } = [...lab.mesh.jobs.values()][0]!
    expect([...tasks.values()].map(({ spec }) => spec.resourceFiles?.length)).toEqual([1, 2])
  })

  it('is read from standard input, with quotes, a byte order mark, CRLF and columns of any name', async () => {
    lab.stdin = '\uFEFFid,"what, then",name\r\n1,"two\r\nlines",it\'s\r\n\r\n2,"say ""hi""",$HOME\r\n'
    const ran = await lab.run('run', 'printf "%s|" {id} {what, then} "{name}"', '--table', '-', '--stdout')
    expect(ran.code).toBe(0)
    expect(ran.stdout).toMatch(/1\|two\r\nlines\|it's\|/)
    expect(ran.stdout).toMatch(/2\|say "hi"\|\$HOME\|/)
  })

  it('a column goes before the placeholder of the same name', async () => {
    lab.files({ 't.csv': 'name,index\nx,7\n' })
    expect(await lab.run('run', 'echo {name} {index}', '--table', 't.csv')).toMatchObject({ code: 0, stdout: 'x 7\n' })
  })

  it.each([
    ['a\tb\n1\n', [], /t\.tsv, line 2: 1 cell, but the first row names 2/],
    ['a\tb\n1\t2\n1\t2\t3\n', [], /t\.tsv, line 3: 3 cells/],
    ['a\ta\n1\t2\n', [], /two columns a/],
    ['a\t\n1\t2\n', [], /column 2 has no name/],
    ['a\tb\n', [], /no row below its first/],
    ['', [], /t\.tsv is empty/],
    ['a\n"x\n', [], /t\.tsv is not understood: Quote Not Closed/],
    ['a\0\n1\n', [], /holds NUL bytes/],
    [
      'a\nnone.fq\na.fq\nother.fq\n',
      ['--inputs', '{a}'],
      /2 are not there, .*line 2 \(task 0\) names none\.fq; line 4 \(task 2\) names other\.fq/,
    ],
    ['a\nx\n', ['--inputs', '{b}'], /\{b\} is not a placeholder\. .*and the columns \{a\};/],
    ['a\nx\n', ['--inputs', '-'], /--inputs -: with --table, --inputs says by its columns/],
    ['a\nx\n', ['--env', 'I={input}'], /\{input\} needs --inputs, which says what file a row brings, such as --inputs '\{a\}'/],
    ['a\nx\n', ['--array', '1'], /either --table or --array/],
    ['a\nx\n', ['--null'], /give it with --inputs -/],
    ['a\nsub1/f\nsub2/f\n', ['--outputs', 'o', '--to', 'out'], /would both write out\/o/],
  ])('%j %j is refused', async (text, more, message) => {
    lab.files({ 't.tsv': text, 'a.fq': 'x' })
    const ran = await lab.run('run', 'true', '--table', 't.tsv', ...more)
    expect(ran.stderr).toMatch(message)
    expect(ran).toMatchObject({ code: 2, stdout: '' })
    expect(lab.mesh.asked).toEqual([])
  })

  it('does not lead out of the directory of --to, unless a cell names that itself', async () => {
    lab.files({ 'names.csv': 'a\nfine\n../../out\n', 'places.csv': 'a\nout/../here\n' })
    const to = (table: string, where: string) => lab.run('run', 'echo > x', '--table', table, '--outputs', 'x', '--to', where)
    expect(await to('names.csv', 'out/{a}/')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--to out\/\{a\}\/: for task 0001 that is out\/\.\.\/\.\.\/out\/, which leads out of out\//),
    })
    expect(lab.mesh.asked).toEqual([])
    expect((await to('places.csv', '{a}/')).code).toBe(0)
    expect(lab.list('here')).toEqual(['x'])
  })
})
