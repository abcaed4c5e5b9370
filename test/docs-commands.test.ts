/** Every command and option that a page names is there. */
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { Lab } from './cli/lab.ts'
import { blocksOf, commandsOf, proseOf, typedLanguages } from './support/markdown.ts'

const root = join(import.meta.dirname, '..')
const pages = ['README.md', ...globSync('docs/*.md', { cwd: root })].sort()
const lab = new Lab()
afterAll(() => lab.close())

const helps = new Map<string, Promise<string>>()

function helpOf(path: readonly string[]): Promise<string> {
  const key = path.join(' ')
  const known = helps.get(key)
  if (known !== undefined) return known
  const asked = lab.run(...path, '--help').then(({ stdout }) => stdout)
  helps.set(key, asked)
  return asked
}

/** The words of every call of batchmesh in a shell command, up to what the shell or another program reads. */
function callsIn(command: string): string[][] {
  const flat = command
    .replaceAll(/\\\n\s*/g, ' ')
    .replaceAll(/'[^']*'|"[^"]*"/g, 'QUOTED')
    .replaceAll(/\s#.*$/gm, '')
  return [...flat.matchAll(/(?:^|[|(;&]\s*)batchmesh (.+?)(?= -- |[|;&<>)\n]|$)/gm)].map(([, words]) => words!.split(/\s+/))
}

function callsOf(text: string): string[][] {
  const typed = blocksOf(text)
    .filter(({ language }) => typedLanguages.includes(language))
    .flatMap(commandsOf)
    .map((command) => command.text)
  // In a table a bar is written \|, and code may be broken over two lines.
  const named = [...proseOf(text).matchAll(/`([^`]+)`/g)].map(([, code]) => code!.replaceAll('\\|', '|').replaceAll('\n', ' '))
  return [...typed, ...named].flatMap(callsIn)
}

/** What is wrong with a call; undefined when nothing is. */
async function problemOf(words: readonly string[]): Promise<string | undefined> {
  const path: string[] = []
  const rest = words.filter((word) => /^[a-z]/.test(word))
  for (const word of rest) {
    const listed = (await helpOf(path)).split('\nCommands:\n')[1]?.split('\n\n')[0]
    if (listed === undefined) break
    if (!new RegExp(`^  ${word}\\b`, 'm').test(listed)) return `there is no command ${[...path, word].join(' ')}`
    path.push(word)
  }
  const help = await helpOf(path)
  const options = words.filter((word) => /^--?[a-z]/i.test(word)).map((word) => word.replace(/[=,….].*$/, ''))
  const missing = options.filter((option) => !new RegExp(`(^|[\\s,])${option}(?![\\w-])`, 'm').test(help))
  return missing.length === 0 ? undefined : `${path.join(' ')} has no ${missing.join(', ')}`
}

describe.each(pages)('%s', (page) => {
  it('names commands and options that there are', async () => {
    const problems = await Promise.all(callsOf(readFileSync(join(root, page), 'utf8')).map(problemOf))
    expect([...new Set(problems.filter((problem) => problem !== undefined))]).toEqual([])
  })
})

/** Paths of all commands below one, and the options of each. */
async function commandsBelow(path: readonly string[]): Promise<{ path: readonly string[]; options: string[] }[]> {
  const help = await helpOf(path)
  const listed = help.split('\nCommands:\n')[1]?.split('\n\n')[0] ?? ''
  const names = [...listed.matchAll(/^ {2}([a-z][\w-]*)/gm)].map(([, name]) => name!).filter((name) => name !== 'help')
  if (names.length > 0) return (await Promise.all(names.map((name) => commandsBelow([...path, name])))).flat()
  const own = help.split('\nOptions:\n')[1]?.split('\nGlobal Options:\n')[0] ?? ''
  return [{ path, options: [...own.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, option]) => option!) }]
}

describe('docs/cli.md', () => {
  const text = readFileSync(join(root, 'docs/cli.md'), 'utf8')

  it('names every command, and every option somewhere', async () => {
    const commands = await commandsBelow([])
    expect(commands.length).toBeGreaterThan(40)
    const unnamed = commands
      .filter(({ path }) => !new RegExp(`[\`\\s]${path.join(' ')}[\`\\s]`).test(text))
      .map(({ path }) => path.join(' '))
    const options = new Set(commands.flatMap(({ options }) => options).filter((option) => option !== '--help'))
    expect([...unnamed, ...[...options].filter((option) => !text.includes(option))]).toEqual([])
  })
})
