import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { tell } from './support/story.ts'

const directory = join(import.meta.dirname, 'stories')
const files = readdirSync(directory).filter((name) => name.endsWith('.story'))

/** `UPDATE_STORIES=1` writes what comes out into the stories, to be read as a diff. */
const update = process.env.UPDATE_STORIES === '1'

describe('a story goes as it is written', () => {
  it.each(files)('%s', (name) => {
    const path = join(directory, name)
    const written = readFileSync(path, 'utf8')
    const told = tell(written)
    if (update) writeFileSync(path, told)
    else expect(told).toBe(written)
  })

  it('in at least a dozen ways', () => {
    expect(files.length).toBeGreaterThanOrEqual(12)
  })
})
