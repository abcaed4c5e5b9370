/** The `#SBATCH` lines of a script. Pure. */
import { MeshError } from '../../../protocols/errors.ts'
import { knownOption } from './options.ts'

/** An option, and where it was given. */
export interface Given {
  name: string
  /** True for a flag. */
  value: string | true
  /** `job.sh, line 3` or `--time`. */
  place: string
}

export interface Directives {
  given: Given[]
  /** Names of options that are passed over. */
  ignored: string[]
}

/** sbatch refuses longer ones. */
export const maxScriptBytes = 4 << 20

/**
 * The options that a script names: lines `#SBATCH …` before its first command, as sbatch reads them. `name` is what errors
 * call the script. Throws InvalidPropertyValue for what sbatch would refuse too, and for options that have no meaning here.
 */
export function directivesOf(text: string, name: string): Directives {
  if (text.includes('\0')) throw wrong(name, 'it holds NUL bytes: it is no script')
  if (!text.startsWith('#!'))
    throw wrong(name, 'its first line must name an interpreter, such as #!/bin/bash. For a single command: --wrap')
  if (/\r\n/.test(text.slice(0, 10_000))) throw wrong(name, 'its lines end as on Windows. Convert it: dos2unix, or sed -i "s/\\r$//"')
  const given: Given[] = []
  const ignored: string[] = []
  for (const [at, line] of text.split('\n').entries()) {
    if (/^\s*(#|$)/.test(line)) {
      const found = /^#SBATCH(?:\s+(.*))?$/.exec(line)
      if (found !== null) read(wordsOf(found[1] ?? '', `${name}, line ${at + 1}`), `${name}, line ${at + 1}`, given, ignored)
    } else break
  }
  return { given, ignored }
}

function read(words: readonly string[], place: string, given: Given[], ignored: string[]): void {
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at]!
    const { spelling, joined } = split(word)
    const option = spelling === undefined ? undefined : knownOption(spelling)
    if (spelling === undefined) throw wrong(place, `${JSON.stringify(word)} is no option`)
    if (option === undefined)
      throw wrong(place, `#SBATCH ${spelling} is not known here. Take it out of the script; what is known: batchmesh submit --help`)
    if (!option.hasValue && joined !== undefined && !option.isIgnored) throw wrong(place, `${spelling} takes no value`)
    let value: string | true = joined ?? true
    if (option.hasValue && joined === undefined) {
      at += 1
      const next = words[at]
      if (next === undefined) throw wrong(place, `${spelling} has no value`)
      value = next
    }
    if (option.isIgnored) ignored.push(`--${option.name}`)
    else given.push({ name: option.name, value, place })
  }
}

/** `--name=value`, `-Nvalue`, or the option by itself. */
function split(word: string): { spelling?: string; joined?: string } {
  const long = /^(--[A-Za-z][\w-]*)(?:=(.*))?$/s.exec(word)
  if (long !== null) return long[2] === undefined ? { spelling: long[1]! } : { spelling: long[1]!, joined: long[2] }
  const short = /^(-[A-Za-z])(.+)?$/s.exec(word)
  if (short === null) return {}
  return short[2] === undefined ? { spelling: short[1]! } : { spelling: short[1]!, joined: short[2] }
}

/** Words of a line: blanks separate, quotes keep them together, a word that begins with # begins a comment. */
function wordsOf(text: string, place: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let quote = ''
  for (const [at, c] of Array.from(text).entries()) {
    if (quote !== '') {
      if (c === quote) quote = ''
      else word += c
    } else if (c === '"' || c === "'") {
      quote = c
      word ??= ''
    } else if (/\s/.test(c)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else if (c === '#' && word === undefined && at >= 0) break
    else word = (word ?? '') + c
  }
  if (quote !== '') throw wrong(place, `a quote ${quote} is open at its end`)
  if (word !== undefined) words.push(word)
  return words
}

function wrong(place: string, message: string): MeshError {
  return new MeshError('InvalidPropertyValue', `${place}: ${message}.`)
}
