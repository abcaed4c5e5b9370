/** How the tests of the documentation read a page, and compare what it shows with what was printed. */
import { describe, expect, it } from 'vitest'
import { anchorsOf, blocksOf, commandsOf, linksOf } from './support/markdown.ts'
import { differences } from './support/shown-output.ts'

const fenced = (language: string, ...lines: string[]) => [`\`\`\`${language}`, ...lines, '```'].join('\n')
const commands = (language: string, ...lines: string[]) => blocksOf(fenced(language, ...lines)).flatMap(commandsOf)

describe('a page', () => {
  it('says of a block which file it is, and why it cannot be run', () => {
    const text = `<!-- file: a/b.ts -->\n${fenced('ts', 'x')}\n\n<!-- not run: needs root -->\n${fenced('sh', 'reboot')}`
    expect(blocksOf(text)).toMatchObject([
      { language: 'ts', file: 'a/b.ts', notRun: undefined, lines: ['x'] },
      { language: 'sh', file: undefined, notRun: 'needs root', line: 7 },
    ])
  })

  it('with a block that is not closed is refused', () => {
    expect(() => blocksOf('```sh\ntrue')).toThrow('line 1')
  })

  it('has links and headings outside of its blocks only', () => {
    const text = `# A \`b\` (c), d\n\n[one](x.md#a) \`[no](n.md)\`\n${fenced('text', '# no', '[no](n.md)')}`
    expect([linksOf(text), [...anchorsOf(text)]]).toEqual([['x.md#a'], ['a-b-c-d']])
  })
})

describe('commands', () => {
  it('of a console block stand after prompts that name their machine, with the output below', () => {
    expect(commands('console', '$ echo a', 'a', 'laptop$ true', 'laptop$ echo b', 'b')).toEqual([
      { line: 2, machine: undefined, text: 'echo a', output: ['a'] },
      { line: 4, machine: 'laptop', text: 'true', output: [] },
      { line: 5, machine: 'laptop', text: 'echo b', output: ['b'] },
    ])
  })

  it('go on after a backslash and to the end of a here-document', () => {
    const found = commands('console', '$ echo \\', '  a', 'a', "$ cat > f <<'EOF'", 'x$ y', 'EOF')
    expect(found.map(({ text, output }) => [text, output])).toEqual([
      ['echo \\\n  a', ['a']],
      ["cat > f <<'EOF'\nx$ y\nEOF", []],
    ])
  })

  it('of a sh block are its lines but for comments, and show nothing', () => {
    expect(commands('sh', '# first', 'true', '', 'echo a')).toMatchObject([
      { text: 'true', output: undefined },
      { text: 'echo a', output: undefined },
    ])
  })

  it('are missing in a console block that begins with output', () => {
    expect(() => commands('console', 'output')).toThrow('begins with a prompt')
  })
})

describe('output as shown', () => {
  it('agrees when only times, names that were made up and sizes of machines differ', () => {
    const shown = ['4 succeeded in 1.2s (job run-20261121-131350-1c777a21)', 'laptop  2 cores, 23.5 GiB']
    expect(differences(shown, '4 succeeded in 579ms (job run-20270101-000000-abcdef01)\nlaptop 16 cores, 1.5 GiB\n')).toEqual([])
  })

  it('agrees in any order, since tasks end in any', () => {
    expect(differences(['b', 'a …', 'a b'], 'a b\na c\nb\n')).toEqual([])
  })

  it('differs by what is shown and was not printed, and by what was printed and is not shown', () => {
    expect(differences(['a', 'b'], 'a\nc\n')).toEqual(['shown but not printed: b', 'printed but not shown: c'])
  })

  it('may leave out lines by … alone, but none that it shows', () => {
    expect(differences(['a', '…'], 'a\nb\nc\n')).toEqual([])
    expect(differences(['…', 'd'], 'a\nb\n')).toEqual(['shown but not printed: d'])
  })

  it('counts lines: one printed twice is shown twice', () => {
    expect(differences(['a'], 'a\na\n')).toEqual(['printed but not shown: a'])
  })
})
