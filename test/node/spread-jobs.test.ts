import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { spreadJobs } from '../../node/spread-jobs.ts'

/** The magic number of ext2, ext3 and ext4. */
const ext = 0xef53
const hasAttributes = (() => {
  try {
    execFileSync('lsattr', ['-d', tmpdir()], { stdio: 'ignore' })
    return statfsSync(tmpdir()).type === ext
  } catch {
    return false
  }
})()

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'batchmesh-spread-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

it.skipIf(!hasAttributes)('the directory of all jobs is the top of a hierarchy to ext4', async () => {
  await spreadJobs(root)
  expect(execFileSync('lsattr', ['-d', root], { encoding: 'utf8' }).split(' ')[0]).toContain('T')
})

it('a file system that cannot be told is left as it is', async () => {
  await expect(spreadJobs('/proc/self')).resolves.toBeUndefined()
})
