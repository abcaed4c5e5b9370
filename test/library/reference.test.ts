/** docs/reference holds what the library exports: it is made from the docstrings by `npm run reference`. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Blobs } from '../../src/library/blobs.ts'
import { Jobs } from '../../src/library/jobs.ts'
import { Machines } from '../../src/library/machines.ts'
import { Mesh } from '../../src/library/mesh.ts'
import { Pools } from '../../src/library/pools.ts'
import { FinishedTask, Output } from '../../src/library/run/finished-task.ts'
import { Tasks } from '../../src/library/tasks.ts'

const root = join(import.meta.dirname, '../..')
const reference = join(root, 'docs/reference')

/** Names in the export lists of the package's entry. */
function exportedNames(): string[] {
  const text = readFileSync(join(root, 'src/index.ts'), 'utf8')
  return Array.from(text.matchAll(/export (?:type )?\{([^}]*)\}/g), ([, list]) => list!)
    .flatMap((list) => list.split(','))
    .map((name) => name.trim().replace(/^type /, ''))
    .filter((name) => name !== '')
}

const pages = existsSync(reference)
  ? readdirSync(reference, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.md'))
  : []
const pageOf = (name: string) => pages.find((path) => path.endsWith(`/${name}.md`))

it('every export has its page, and every page its export: else run npm run reference', () => {
  const names = exportedNames()
  expect(names.length).toBeGreaterThan(50)
  expect(names.filter((name) => pageOf(name) === undefined)).toEqual([])
  const known = new Set([...names, 'README'])
  expect(pages.map((path) => path.replace(/^.*\/|\.md$/g, '')).filter((name) => !known.has(name.replace('.md', '')))).toEqual([])
})

describe('every method has its entry:', () => {
  it.each([Mesh, Machines, Pools, Jobs, Tasks, Blobs, FinishedTask, Output].map((type) => [type.name, type] as const))(
    '%s',
    (name, type) => {
      const text = readFileSync(join(reference, pageOf(name)!), 'utf8')
      const methods = Object.getOwnPropertyNames(type.prototype).filter((method) => method !== 'constructor')
      expect(methods.filter((method) => !text.includes(`### ${method}()`))).toEqual([])
    },
  )
})

it('no link of the reference leads nowhere', () => {
  const broken = pages.flatMap((page) =>
    Array.from(readFileSync(join(reference, page), 'utf8').matchAll(/\]\(([^)#]+\.md)/g), ([, to]) => to!)
      .filter((to) => !existsSync(join(reference, page, '..', to)))
      .map((to) => `${page}: ${to}`),
  )
  expect(broken).toEqual([])
})
