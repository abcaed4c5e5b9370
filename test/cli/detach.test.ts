import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { rotate } from '../../src/cli/node/detach.ts'

const dir = mkdtempSync(join(tmpdir(), 'batchmesh-log-'))
afterEach(() => rmSync(dir, { recursive: true, force: true }))

describe('the log of a detached node', () => {
  it('is put aside at a start once it is large, in place of the one before', async () => {
    const path = join(dir, 'node.log')
    await rotate(path)
    expect(readdirSync(dir)).toEqual([])
    writeFileSync(path, 'small')
    await rotate(path)
    expect(readdirSync(dir)).toEqual(['node.log'])
    writeFileSync(`${path}.1`, 'the one before')
    truncateSync(path, 10 * 2 ** 20 + 1)
    await rotate(path)
    expect(readdirSync(dir)).toEqual(['node.log.1'])
    expect(readFileSync(`${path}.1`, 'utf8').slice(0, 5)).toBe('small')
  })
})
