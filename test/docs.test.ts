/** What the pages of the documentation claim, as far as it can be read off without running them: test/e2e/docs.test.ts runs two. */
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { errorCodes, MeshError } from '../protocols/errors.ts'
import { failureCodes } from '../protocols/model/task.ts'
import { anchorsOf, blocksOf, commandsOf, linksOf, typedLanguages } from './support/markdown.ts'

const root = join(import.meta.dirname, '..')
const pages = ['README.md', ...globSync('docs/*.md', { cwd: root })].sort()
const textOf = (page: string) => readFileSync(join(root, page), 'utf8')
const typed = pages.filter((page) => /^README|tour|howto-|founder-away/.test(page) && page !== 'docs/README.md')

describe.each(pages)('%s', (page) => {
  it('links to pages and headings that are there', () => {
    const broken = linksOf(textOf(page)).filter((target) => !leadsSomewhere(page, target))
    expect(broken).toEqual([])
  })
})

function leadsSomewhere(page: string, target: string): boolean {
  if (/^https?:/.test(target)) return true
  const [path = '', anchor] = target.split('#')
  const file = path === '' ? join(root, page) : resolve(root, dirname(page), path)
  if (!existsSync(file)) return false
  return anchor === undefined || anchorsOf(textOf(relative(root, file))).has(anchor)
}

describe.each(typed)('the blocks of %s', (page) => {
  const blocks = blocksOf(textOf(page))

  it('are typed by the suite, are a file, or say why not', () => {
    const loose = blocks.filter(
      ({ language, file, notRun }) =>
        !typedLanguages.includes(language) && language !== 'text' && file === undefined && notRun === undefined,
    )
    expect(loose.map(({ line, language }) => `${page}:${line} (${language})`)).toEqual([])
  })

  it('that are typed can be read as commands', () => {
    const commands = blocks.filter(({ language }) => typedLanguages.includes(language)).flatMap(commandsOf)
    expect(commands.length).toBeGreaterThan(0)
  })
})

describe('docs/troubleshooting.md', () => {
  const text = textOf('docs/troubleshooting.md')
  const rows = text.split('\n').filter((line) => line.startsWith('| `'))
  const sources = ['protocols', 'node', 'coordinator', 'src']
    .flatMap((room) => globSync(`${room}/**/*.ts`, { cwd: root }))
    .map(textOf)
    .join('\n')

  it.each(errorCodes)('has an entry for the error %s, with its sentence', (code) => {
    const again = new MeshError(code).retryable ? 'yes' : 'no'
    const entry = rows.find((row) => row.startsWith(`| \`${code}\` | ${new MeshError(code).message} | ${again} |`))
    expect(entry).toBeDefined()
  })

  it.each(failureCodes)('has an entry for the failure %s', (code) => {
    const section = text.slice(text.indexOf('## A task failed'), text.indexOf('## Files of tasks'))
    expect(section).toContain(`\n| \`${code}\` | `)
  })

  it('quotes messages as the program says them', () => {
    // Under "MPI" stands what mpirun says; what of it is ours begins with our name.
    const foreign = text.slice(text.indexOf('### MPI'), text.indexOf('## Files of tasks'))
    const own = rows.filter((row) => !foreign.includes(row) || row.startsWith('| `batchmesh: '))
    const quoted = own.flatMap((row) => [...row.split(' | ')[0]!.matchAll(/`([^`]+)`/g)].map(([, message]) => message!))
    const pieces = quoted.flatMap((message) => message.split('…').map((piece) => piece.trim()))
    expect(pieces.filter((piece) => piece.length > 3 && !sources.includes(piece))).toEqual([])
  })
})
