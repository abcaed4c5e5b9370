import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { machineKey } from '../../node/identity.ts'

const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)

it('the directories that a first start makes above its own let task users through; the one with the key does not', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'batchmesh-identity-'))
  t.onTestFinished(() => rm(root, { recursive: true, force: true }))
  await machineKey(join(root, 'machines', 'one'))
  expect(await mode(join(root, 'machines'))).toBe('711')
  expect(await mode(join(root, 'machines', 'one'))).toBe('711')
  expect(await mode(join(root, 'machines', 'one', 'identity'))).toBe('700')
})
