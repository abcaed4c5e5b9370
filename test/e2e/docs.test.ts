/** The pages that people follow, typed word by word into machines of a mesh. The conventions: test/support/markdown.ts. */
import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it, vi } from 'vitest'
import { MeshLab } from './support/mesh-lab.ts'
import { Typist } from './support/typist.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const pages = ['README.md', 'docs/tour.md', 'docs/founder-away.md', ...globSync('docs/howto-*.md', { cwd: root }).sort()]

// A page waits for its own commands and tasks much of the time: two at once take little more than one.
vi.setConfig({ maxConcurrency: 2 })

it.concurrent.each(pages)('every command of %s does what the page shows', async (page) => {
  const lab = await MeshLab.create()
  try {
    const typist = await Typist.create(lab)
    const wrong = await typist.follow(page, readFileSync(`${root}/${page}`, 'utf8'))
    expect(wrong.join('\n\n')).toBe('')
  } finally {
    await lab.close()
  }
})
