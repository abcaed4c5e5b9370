import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseShellTemplate } from '../../src/cli/shell-template.ts'
import { expand, expandPattern, parseWordTemplate } from '../../src/cli/template.ts'

/** What sh prints for a command made of a template. */
function sh(template: string, values: { input?: string; index: number }): string {
  return execFileSync('sh', ['-c', expand(parseShellTemplate(template), values)], {
    encoding: 'utf8',
    env: { PATH: process.env.PATH ?? '', x: 'X' },
  })
}

/** Texts that are hard on a shell. */
const nasty = fc.oneof(
  fc.string({ unit: fc.constantFrom(...Array.from(`'"\\$\`!*?[]{}()<>|&;#~= \n\ta1.-/é`)), minLength: 1, maxLength: 12 }),
  fc.constantFrom('$(echo pwned)', '`echo pwned`', "it's", '"; echo pwned; "', '-n', '2', 'if', 'a=b', '~', '*', '\\', '$x', "'", '"'),
)
const many = { numRuns: 60 }

describe('shell templates', () => {
  const places: [string, string, (value: string) => string][] = [
    ['outside quotes', `printf '%s' {input}`, (v) => v],
    ['inside a word', `printf '%s' a{input}b`, (v) => `a${v}b`],
    ['after a variable', `printf '%s' "$x"{input}`, (v) => `X${v}`],
    ['right after an unquoted variable name', `printf '%s' $x{input}`, (v) => `X${v}`],
    ['inside single quotes', `printf '%s' 'a{input}b'`, (v) => `a${v}b`],
    ['inside double quotes', `printf '%s' "a{input}b"`, (v) => `a${v}b`],
    ['right after a variable in double quotes', `printf '%s' "$x{input}"`, (v) => `X${v}`],
    ['behind a backslash in double quotes', `printf '%s' "\\{input}"`, (v) => `\\${v}`],
    ['behind an escaped quote', `printf '%s' "\\"{input}"`, (v) => `"${v}`],
    ['inside a command substitution in double quotes', `printf '%s' "$(printf '%s.' {input})"`, (v) => `${v}.`],
    ['in double quotes inside a substitution', `printf '%s' "$(printf '%s.' "<{input}>")"`, (v) => `<${v}>.`],
    ['behind a comment with a quote in it', `: # it's {input}\nprintf '%s' {input}`, (v) => v],
    ['behind a parameter expansion with quotes', `printf '%s' "\${x:-it's}"{input}`, (v) => `X${v}`],
    ['behind an escaped space and a hash', `printf '%s' \\ #{input}`, (v) => ` #${v}`],
    ['as an assigned value', `y={input}; printf '%s' "$y"`, (v) => v],
    ['twice', `printf '%s' {input}'{input}'"{input}"`, (v) => v + v + v],
  ]
  it.each(places)('a value %s reaches the program as it is', (_, template, expected) => {
    fc.assert(
      fc.property(nasty, (value) => {
        expect(sh(template, { input: value, index: 0 })).toBe(expected(value))
      }),
      many,
    )
  })

  it('a number before a redirection is not taken for a descriptor', () => {
    expect(sh('printf %s x >/dev/null; echo {index}>/dev/null; echo done', { index: 2 })).toBe('done\n')
  })

  it('{index} can be reckoned with', () => {
    expect(sh('echo $(( {index} * (2 + 1) )) $(( $(printf %s {index}) + 1 ))', { index: 8 })).toBe('24 9\n')
  })

  it.each([
    ['echo `cat {input}`', /backquotes/],
    ['echo ${y:-{input}}', /\$\{…\}/],
    ['echo "${y:-"{input}"}"', /\$\{…\}/],
    ['echo $(( {name} ))', /\$\(\(…\)\)/],
    ['echo $(( {index:03} ))', /\$\(\(…\)\)/],
    ['cat <<EOF\n{input}\nEOF', /here-document/],
    ["echo $'a' {input}", /shells read differently/],
    ['echo $(case a in a) echo x;; esac) {input}', /case inside/],
    ["echo '{input}", /open '/],
    ['echo {file}', /\{file\} is not a placeholder.*write \{\{file\}/],
    ['echo {input:04}', /only \{index\} takes a format/],
    ['echo {index:4}', /\{index:04\}/],
  ])('%j is refused', (template, message) => {
    expect(() => parseShellTemplate(template)).toThrow(message)
  })

  it('leaves alone the braces that are the shell’s own', () => {
    for (const template of ["awk '{print $1}'", 'find . -exec ls {} +', 'echo ${name} "${index}" \'${input}\'', '{ echo; }', 'echo {a,b}'])
      expect(expand(parseShellTemplate(template), { index: 0 })).toBe(template)
  })

  it('doubled braces stand for one', () => {
    expect(expand(parseShellTemplate("awk '{{print}' {{input}"), { index: 0 })).toBe("awk '{print}' {input}")
  })

  it('plain paths stay readable', () => {
    expect(expand(parseShellTemplate('povray +I{input} {input}'), { input: 'frames/a.pov', index: 0 })).toBe(
      "povray +I'frames/a.pov' frames/a.pov",
    )
  })
})

describe('word templates', () => {
  it.each([
    ['{input}', 'a/b.tar.gz', 'a/b.tar.gz'],
    ['{base}', 'a/b.tar.gz', 'b.tar.gz'],
    ['{name}', 'a/b.tar.gz', 'b.tar'],
    ['{ext}', 'a/b.tar.gz', 'gz'],
    ['{dir}', 'a/b.tar.gz', 'a'],
    ['{dir}', 'b', '.'],
    ['{name}|{ext}', '.profile', '.profile|'],
    ['{index}', 'x', '7'],
    ['f{index:04}.png', 'x', 'f0007.png'],
  ])('%s of %s is %s', (template, input, expected) => {
    expect(expand(parseWordTemplate(template), { input, index: 7 })).toBe(expected)
  })

  it('values go in without quotes', () => {
    fc.assert(
      fc.property(nasty, (value) => {
        expect(expand(parseWordTemplate('<{input}>'), { input: value, index: 0 })).toBe(`<${value}>`)
      }),
    )
  })

  it('a value in a pattern is matched literally', () => {
    expect(expandPattern(parseWordTemplate('{name}*.png'), { input: 'a[1]*.x', index: 0 })).toBe('a[[]1][*]*.png')
  })

  it('{input} without inputs is refused', () => {
    expect(() => expand(parseWordTemplate('{ext}'), { index: 0 })).toThrow('{ext} needs --inputs.')
  })
})
