import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { failpoint, onFailpoint, readFailpoints } from '../../protocols/failpoint.ts'

const path = fileURLToPath(new URL('../../protocols/failpoint.ts', import.meta.url))

/** What becomes of a process that passes a failpoint three times, counting. */
function passThrice(variable: string) {
  const program = `const { failpoint, onFailpoint } = await import(${JSON.stringify(path)})
for (let n = 1; n <= 3; n += 1) { failpoint('journal.batch.synced'); console.log(n) }`
  const env = { ...process.env, BATCHMESH_FAILPOINTS: variable }
  const { stdout, stderr, signal, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    env,
    encoding: 'utf8',
    timeout: 20_000,
  })
  return { passed: stdout.split('\n').length - 1, stderr, signal, status }
}

describe('a failpoint', () => {
  it('is an empty function in a process that was not started with one, and cannot be armed in it later', () => {
    expect(process.env.BATCHMESH_FAILPOINTS).toBeUndefined()
    expect(String(failpoint)).toBe('() => {}')
    process.env.BATCHMESH_FAILPOINTS = 'journal.batch.synced=error'
    try {
      expect(() => failpoint('journal.batch.synced')).not.toThrow()
      expect(() => onFailpoint(() => {})).toThrow('Start the process with BATCHMESH_FAILPOINTS=test')
    } finally {
      delete process.env.BATCHMESH_FAILPOINTS
    }
  })

  it('armed with crash@2 kills its process the second time it is passed, and says where', () => {
    expect(passThrice('journal.batch.synced=crash@2')).toMatchObject({
      passed: 1,
      signal: 'SIGKILL',
      stderr: 'failpoint journal.batch.synced: crash\n',
    })
  })

  it('armed with error fails its step', () => {
    const { passed, stderr, status } = passThrice('blobs.rows.synced=crash, journal.batch.synced=error@3')
    expect({ passed, status }).toEqual({ passed: 2, status: 1 })
    expect(stderr).toContain('Error: The failpoint journal.batch.synced was armed to fail.')
  })

  it('armed with delay stands still so long, and goes on', () => {
    const { passed, stderr, status } = passThrice('journal.batch.synced=delay:1')
    expect({ passed, stderr, status }).toEqual({ passed: 3, stderr: 'failpoint journal.batch.synced: delay\n', status: 0 })
  })

  it.each([
    ['journal.batch.synced', 'write NAME=crash'],
    ['journal.batch.synced=delay', 'write NAME=crash'],
    ['journal.batch.synced=crash:5', 'write NAME=crash'],
    ['journal.batch.synced=crash@0', 'write NAME=crash'],
    ['journal.batch=crash', 'there is no failpoint journal.batch'],
    ['journal.batch.synced=crash,', 'at ""'],
  ])('refuses %s, so that no test runs unarmed', (text, sentence) => {
    expect(() => readFailpoints(text)).toThrow(sentence)
  })
})
