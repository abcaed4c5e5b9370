import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import * as library from '../../src/index.ts'
import { FakeMesh } from './fake-mesh.ts'

it('the example of the library runs as it stands', async () => {
  const text = readFileSync(join(import.meta.dirname, '../../src/index.ts'), 'utf8')
  const example = Array.from(text.matchAll(/^ \* {5}(\S.*)$/gm), ([, line]) => line).join('\n')
  expect(example).toMatch(/addJob/)
  const fake = new FakeMesh()
  const AsyncFunction = (async () => {}).constructor as new (...code: string[]) => (connect: () => Promise<unknown>) => Promise<void>
  await new AsyncFunction('connect', example)(() => library.connect({ open: fake.open }))
  expect(fake.view('j').counts).toMatchObject({ completed: 1, succeeded: 1 })
  fake.close()
})
