/**
 * Command lines. Azure Batch splits a task's command line into words and executes it directly: no shell, so no pipes,
 * redirections, globs or variables. The words are those of a POSIX shell without expansion: blanks separate, single
 * quotes keep all, double quotes keep all but `\"`, `\\`; outside quotes a backslash keeps the next character.
 */
import { MeshError } from '../errors.ts'

/** The words of a command line. Throws InvalidPropertyValue on an open quote or an empty line. */
export function splitCommandLine(line: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (let at = 0; at < line.length; at += 1) {
    const c = line[at]!
    if (quote === "'") {
      if (c === "'") quote = ''
      else word += c
    } else if (quote === '"') {
      if (c === '"') quote = ''
      else if (c === '\\' && (line[at + 1] === '"' || line[at + 1] === '\\')) {
        at += 1
        word += line[at]!
      } else word += c
    } else if (c === "'" || c === '"') {
      quote = c
      word ??= ''
    } else if (c === '\\' && at + 1 < line.length) {
      at += 1
      word = (word ?? '') + line[at]!
    } else if (c === ' ' || c === '\t' || c === '\n' || c === '\r') {
      if (word !== undefined) words.push(word)
      word = undefined
    } else word = (word ?? '') + c
  }
  if (quote !== '') throw new MeshError('InvalidPropertyValue', `The command line has an open ${quote} quote: ${line}`)
  if (word !== undefined) words.push(word)
  if (words.length === 0) throw new MeshError('InvalidPropertyValue', 'The command line is empty.')
  return words
}

const plainWord = /^[A-Za-z0-9_@%+=:,./-]+$/

/** One word, quoted so that a POSIX shell and {@link splitCommandLine} both read it back as it is. */
export function quoteWord(word: string): string {
  return plainWord.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}

/** A command line whose words are exactly these. */
export function joinCommandLine(words: readonly string[]): string {
  return words.map(quoteWord).join(' ')
}

/** A hint for command lines that look as if a shell were expected, else undefined. */
export function shellHint(line: string): string | undefined {
  const bare = line.replaceAll(/'[^']*'|\\./g, '')
  const found = /\|\||&&|[|<>;]|\$\{?[A-Za-z_]\w*\}?|\$\(/.exec(bare.replaceAll(/"[^"]*"/g, (quoted) => quoted.replaceAll(/[|<>;&]/g, '')))
  const first = splitCommandLine(line)[0]!
  if (found === null || /(^|\/)(sh|bash|dash|zsh)$/.test(first)) return undefined
  return `the command line holds "${found[0]}" but is run without a shell; for pipes, redirections and variables write: sh -c ${quoteWord(line)}`
}
