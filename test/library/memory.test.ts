import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { isWorthIt } from '../../src/mesh/memory.ts'

const MiB = 1 << 20
const resting = { cpuMs: 100, lengthMs: 30_000, heapTotalBytes: 60 * MiB, heapUsedBytes: 30 * MiB }

describe('memory of a node at rest', () => {
  it('is given back when nothing was done and there is much of it', () => {
    expect(isWorthIt(resting)).toBe(true)
    expect(isWorthIt({ ...resting, cpuMs: 1000 })).toBe(false)
    expect(isWorthIt({ ...resting, heapTotalBytes: 40 * MiB })).toBe(false)
  })

  it('can be given back by this Node: its heap shrinks to little more than what is in use', async () => {
    const program = `
      const { setFlagsFromString } = require('node:v8')
      const { runInNewContext } = require('node:vm')
      setFlagsFromString('--expose-gc')
      let much = Array.from({ length: 2e6 }, (_, at) => ({ at }))
      much = undefined
      const before = process.memoryUsage().heapTotal
      runInNewContext('gc')({ type: 'major', execution: 'sync', flavor: 'last-resort' })
      console.log(JSON.stringify([before, process.memoryUsage().heapTotal]))`
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', program])
    const [before, after] = JSON.parse(stdout) as [number, number]
    expect(after).toBeLessThan(before / 2)
  })
})
