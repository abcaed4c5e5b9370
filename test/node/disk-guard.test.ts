/** Tasks that fill the disk. As root on a small file system in memory, which stands for a small disk. */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DiskGuard, emptyDirectory, keptLogBytes, sizeOf } from '../../node/disk-guard.ts'
import type { FailureInfo } from '../../protocols/model/task.ts'
import { silentLog } from '../support/worker/fake-parts.ts'
import { isRoot, TaskLab } from './task-lab.ts'

const mib = 2 ** 20
let dir: string
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'batchmesh-disk-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

function tree(name: string, bytes: number): string {
  const path = join(dir, name)
  mkdirSync(join(path, 'wd'), { recursive: true })
  writeFileSync(join(path, 'wd', 'data'), Buffer.alloc(bytes, 1))
  return path
}

describe('the guard of the disk', () => {
  it('ends the task whose directories hold the most, and the next only when that one is gone', async () => {
    let free = 100
    const ended: string[] = []
    const next = Promise.withResolvers<FailureInfo>()
    const second = Promise.withResolvers<FailureInfo>()
    const looks: (() => void)[] = []
    const guard = new DiskGuard({
      path: dir,
      reserveBytes: 10 * mib,
      log: silentLog,
      everyMs: 1,
      look: async () => {
        for (const look of looks.splice(0)) look()
        return { free: free * mib, total: 1000 * mib }
      },
    })
    const watch = (name: string, bytes: number, then: (failure: FailureInfo) => void) =>
      guard.watch([tree(name, bytes)], (failure) => {
        ended.push(name)
        then(failure)
      })
    watch('small', 1000, () => undefined)
    watch('middle', 2 * mib, second.resolve)
    const done = watch('large', 3 * mib, next.resolve)
    const looked = () => new Promise<void>((resolve) => looks.push(resolve))
    await looked()
    await looked()
    expect(ended).toEqual([])
    free = 9
    expect(await next.promise).toMatchObject({ category: 'usererror', code: 'DiskFull', message: expect.stringContaining('hold 3.0 MiB') })
    await looked()
    await looked()
    expect(ended).toEqual(['large'])
    done()
    await second.promise
    await looked()
    await looked()
    // The one that is left holds next to nothing: others fill the disk.
    expect(ended).toEqual(['large', 'middle'])
    await guard.close()
  })

  it('counts what lies below names that are no text, and follows no link', async () => {
    const path = tree('a', mib)
    const odd = Buffer.concat([Buffer.from(`${path}/wd/`), Buffer.from([0xff, 0xfe])])
    mkdirSync(odd)
    writeFileSync(Buffer.concat([odd, Buffer.from('/x')]), Buffer.alloc(2 * mib, 1))
    symlinkSync('/usr', join(path, 'wd', 'out'))
    symlinkSync('..', join(path, 'wd', 'loop'))
    const bytes = await sizeOf([path])
    expect(bytes).toBeGreaterThanOrEqual(3 * mib)
    expect(bytes).toBeLessThan(4 * mib)
  })
})

describe('the files of a task that filled the disk', () => {
  it('are removed but for the beginnings of its output files', async () => {
    const path = tree('a', mib)
    writeFileSync(join(path, 'stdout.txt'), Buffer.alloc(3 * mib, 'x'))
    writeFileSync(join(path, 'stderr.txt'), 'it said')
    await emptyDirectory(path, [join(path, 'stdout.txt'), join(path, 'stderr.txt')])
    expect(existsSync(join(path, 'wd'))).toBe(false)
    expect(statSync(join(path, 'stdout.txt')).size).toBe(keptLogBytes)
    expect(readFileSync(join(path, 'stderr.txt'), 'utf8')).toBe('it said')
  })

  it('S1: are not cut where the task put a link to somebody else’s in their place', async () => {
    const others = [0, 1].map((n) => join(dir, `other${n}`))
    for (const other of others) writeFileSync(other, Buffer.alloc(2 * mib, 'x'))
    const path = tree('a', 10)
    symlinkSync(others[0]!, join(path, 'stdout.txt'))
    linkSync(others[1]!, join(path, 'stderr.txt'))
    await emptyDirectory(path, [join(path, 'stdout.txt'), join(path, 'stderr.txt')])
    for (const other of others) expect(statSync(other).size).toBe(2 * mib)
    expect(existsSync(join(path, 'stdout.txt'))).toBe(false)
  })
})

describe.skipIf(!isRoot)('a disk of 200 MiB (skipped: only root can mount one)', () => {
  it('is never filled by a flood of output, which ends its task and leaves room for the next', async () => {
    chmodSync(dir, 0o711)
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=200m,mode=711', 'batchmesh-test', dir])
    let lab: TaskLab | undefined
    const guard = new DiskGuard({ path: dir, reserveBytes: 120 * mib, log: silentLog, everyMs: 5 })
    try {
      lab = await TaskLab.open({ root: join(dir, 'lab') })
      const stop = new AbortController()
      const lane = await lab.lane()
      let failure: FailureInfo | undefined
      const running = lab.sh(lane, 'cat /dev/zero', {
        signal: stop.signal,
        placed: ({ taskDir }) => {
          guard.watch([taskDir], (why) => {
            failure = why
            stop.abort()
          })
        },
      })
      const { paths, killed } = await running
      expect(killed).toBe(true)
      expect(failure).toMatchObject({ code: 'DiskFull' })
      await emptyDirectory(paths.taskDir, [paths.stdout])
      expect(statSync(paths.stdout).size).toBe(keptLogBytes)
      expect(await lab.sh(lane, 'head -c 20000000 /dev/zero')).toMatchObject({ exitCode: 0 })
    } finally {
      await guard.close()
      await lab?.executor.close()
      execFileSync('umount', ['-l', dir])
    }
  })
})
