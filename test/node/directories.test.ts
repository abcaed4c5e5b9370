import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Directories, defaultRetentionMs } from '../../node/directories.ts'
import { isRoot } from './task-lab.ts'

let root: string
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'batchmesh-directories-'))
})
afterEach(() => rmSync(root, { recursive: true, force: true }))

const attempt = (jobUid: number, task: string, epoch = 1) => ({ jobUid, task, epoch })
const modeOf = (path: string) => statSync(path).mode & 0o7777

describe('the layout', () => {
  it("is Azure Batch's, with the job's uid in place of 1 and the epoch on later attempts", () => {
    const directories = new Directories(root)
    expect(directories.make(attempt(7, 'task1'), 'Render', undefined)).toEqual({
      taskDir: join(root, 'workitems/Render/job-7/task1'),
      wd: join(root, 'workitems/Render/job-7/task1/wd'),
      stdout: join(root, 'workitems/Render/job-7/task1/stdout.txt'),
      stderr: join(root, 'workitems/Render/job-7/task1/stderr.txt'),
    })
    expect(directories.make(attempt(7, 'task1', 2), 'Render', undefined).taskDir).toBe(join(root, 'workitems/Render/job-7/task1.2'))
    for (const name of ['shared', 'startup', 'applications', 'fsmounts', 'volatile'])
      expect(statSync(join(root, name)).isDirectory()).toBe(true)
  })

  it('lets tasks pass through all above their own directory, and list none of it', () => {
    const { taskDir, wd } = new Directories(root).make(attempt(1, 'a'), 'job', undefined)
    for (const path of ['', 'workitems', 'workitems/job', 'workitems/job/job-1', 'shared']) expect(modeOf(join(root, path))).toBe(0o711)
    expect([modeOf(taskDir), modeOf(wd)]).toEqual([0o700, 0o700])
  })

  it('keeps a job that reuses an id apart from the one before', () => {
    const directories = new Directories(root)
    const before = directories.make(attempt(1, 'a'), 'job', undefined)
    expect(directories.make(attempt(2, 'a'), 'job', undefined).taskDir).not.toBe(before.taskDir)
  })

  it('refuses to run an attempt twice at once', () => {
    const directories = new Directories(root)
    directories.make(attempt(1, 'a'), 'job', undefined)
    expect(() => directories.make(attempt(1, 'a'), 'job', undefined)).toThrow(/runs already/)
  })

  it('M1: keeps the members of a gang apart that one machine runs', async () => {
    const directories = new Directories(root)
    const primary = directories.make(attempt(1, 'g', 2), 'job', undefined)
    const member = directories.make({ ...attempt(1, 'g', 2), member: 3 }, 'job', undefined)
    expect([primary, member].map(({ taskDir }) => taskDir)).toEqual(['g.2', 'g.2+3'].map((name) => join(root, 'workitems/job/job-1', name)))
    await directories.purgeJob(1)
    expect([primary, member].map(({ wd }) => existsSync(wd))).toEqual([true, true])
  })

  it('gives no attempt what an earlier mesh left under its name', () => {
    const old = new Directories(root).make(attempt(1, 'a'), 'job', undefined)
    writeFileSync(join(old.wd, 'old'), '')
    const { wd } = new Directories(root).make(attempt(1, 'a'), 'job', undefined)
    expect(wd).toBe(old.wd)
    expect(existsSync(join(wd, 'old'))).toBe(false)
  })

  it.skipIf(!isRoot)(
    'S1: belongs to the lane while the task runs, and to the node once it is sealed (skipped for ordinary users, whose tasks all run as themselves)',
    () => {
      const directories = new Directories(root)
      const { taskDir, wd } = directories.make(attempt(1, 'a'), 'job', { uid: 70_001, gid: 70_002 })
      expect([statSync(taskDir).uid, statSync(wd).uid, statSync(wd).gid]).toEqual([70_001, 70_001, 70_002])
      chmodSync(taskDir, 0o777)
      directories.seal(attempt(1, 'a'), Date.now())
      expect(statSync(taskDir).uid).toBe(0)
      expect(modeOf(taskDir) & 0o777).toBe(0o700)
    },
  )
})

describe('finding attempts', () => {
  it('tells whether one runs, also from the disk after a restart', () => {
    const directories = new Directories(root)
    const paths = directories.make(attempt(3, 'a', 2), 'job', undefined)
    expect(directories.find(attempt(3, 'a', 2))).toEqual({ paths, running: true })
    directories.seal(attempt(3, 'a', 2), Date.now())
    expect(directories.find(attempt(3, 'a', 2))).toEqual({ paths, running: false })
    expect(new Directories(root).find(attempt(3, 'a', 2))).toEqual({ paths, running: false })
  })

  it('finds nothing that is not there, nor by a name that leads elsewhere', () => {
    const directories = new Directories(root)
    directories.make(attempt(3, 'a'), 'job', undefined)
    for (const none of [attempt(3, 'a', 2), attempt(4, 'a'), attempt(3, '..'), attempt(3, '../../x'), attempt(3, '.')])
      expect(directories.find(none)).toBeUndefined()
  })
})

describe('what expires', () => {
  it('is what ended longer ago than its retention, and nothing that runs', async () => {
    const directories = new Directories(root)
    const [short, long, running] = ['short', 'long', 'running'].map((task) => directories.make(attempt(1, task), 'job', undefined).taskDir)
    directories.seal(attempt(1, 'short'), 1_000_000, 1000)
    directories.seal(attempt(1, 'long'), 1_000_000)
    expect(await directories.expire(1_000_999)).toBe(0)
    expect(await directories.expire(1_001_000)).toBe(1)
    expect([short, long, running].map((path) => existsSync(path!))).toEqual([false, true, true])
    expect(await new Directories(root).expire(1_000_000 + defaultRetentionMs)).toBe(1)
    expect(existsSync(long!)).toBe(false)
  })

  it('is kept for the default time from the first sweep when the node died before it was sealed', async () => {
    const { taskDir } = new Directories(root).make(attempt(1, 'a'), 'job', undefined)
    const restarted = new Directories(root)
    expect(await restarted.expire(5000)).toBe(0)
    expect(await restarted.expire(4999 + defaultRetentionMs)).toBe(0)
    expect(await restarted.expire(5000 + defaultRetentionMs)).toBe(1)
    expect(existsSync(taskDir)).toBe(false)
  })

  it('goes without following links, through directories that the task closed', async () => {
    const outside = join(root, 'outside')
    mkdirSync(outside)
    writeFileSync(join(outside, 'precious'), 'x')
    const directories = new Directories(join(root, 'node'))
    const { wd, taskDir } = directories.make(attempt(1, 'a'), 'job', undefined)
    symlinkSync(outside, join(wd, 'link'))
    mkdirSync(join(wd, 'closed/inner'), { recursive: true })
    writeFileSync(join(wd, 'closed/inner/file'), 'x')
    chmodSync(join(wd, 'closed/inner'), 0o000)
    chmodSync(join(wd, 'closed'), 0o000)
    directories.seal(attempt(1, 'a'), 0, 0)
    expect(await directories.expire(1)).toBe(1)
    expect(existsSync(taskDir)).toBe(false)
    expect(readFileSync(join(outside, 'precious'), 'utf8')).toBe('x')
  })

  it('goes with what every task has, also where the task put something else in its place', async () => {
    const outside = join(root, 'outside')
    mkdirSync(outside)
    writeFileSync(join(outside, 'precious'), 'x')
    const directories = new Directories(join(root, 'node'))
    const [plain, linked, nested] = ['plain', 'linked', 'nested'].map((task) => directories.make(attempt(1, task), 'job', undefined))
    for (const { stdout, stderr } of [plain!, linked!]) for (const path of [stdout, stderr]) writeFileSync(path, '')
    rmSync(linked!.stdout)
    symlinkSync(join(outside, 'precious'), linked!.stdout)
    rmSync(linked!.wd, { recursive: true })
    symlinkSync(outside, linked!.wd)
    mkdirSync(nested!.stdout)
    writeFileSync(join(nested!.stdout, 'file'), '')
    for (const task of ['plain', 'linked', 'nested']) directories.seal(attempt(1, task), 0, 0)
    expect(await directories.expire(1)).toBe(3)
    expect([plain, linked, nested].map((paths) => existsSync(paths!.taskDir))).toEqual([false, false, false])
    expect(readFileSync(join(outside, 'precious'), 'utf8')).toBe('x')
  })

  it('takes the directory of a job with its last task', async () => {
    const directories = new Directories(root)
    directories.make(attempt(1, 'a'), 'job', undefined)
    directories.seal(attempt(1, 'a'), 0, 0)
    await directories.expire(1)
    expect(existsSync(join(root, 'workitems/job'))).toBe(false)
    expect(existsSync(directories.make(attempt(1, 'b'), 'job', undefined).wd)).toBe(true)
  })

  it('is also what a node that was killed had just made, or almost removed', () => {
    const begun = join(new Directories(root).node.workitems, 'begun')
    mkdirSync(begun)
    expect(new Directories(root).jobs).toEqual([])
    expect(existsSync(begun)).toBe(false)
  })

  it('is all of a purged job but what still runs', async () => {
    const directories = new Directories(root)
    const [ended, running, other] = [attempt(1, 'ended'), attempt(1, 'running'), attempt(2, 'other')].map(
      (each) => directories.make(each, 'job', undefined).taskDir,
    )
    directories.seal(attempt(1, 'ended'), Date.now())
    await directories.purgeJob(1)
    expect([ended, running, other].map((path) => existsSync(path!))).toEqual([false, true, true])
  })

  it('is not what the node keeps for a job itself, until the node is done with it or was started anew', async () => {
    const directories = new Directories(root)
    const own = directories.makeOwn(1, 'job', 'modules', undefined)
    expect({ own, mode: modeOf(own) }).toEqual({ own: join(root, 'workitems/job/job-1/+modules'), mode: 0o755 })
    writeFileSync(join(own, 'kept'), '')
    await directories.expire(Number.MAX_SAFE_INTEGER)
    await directories.purgeJob(1)
    expect(existsSync(join(own, 'kept'))).toBe(true)
    await new Directories(root).expire(0)
    expect(existsSync(own)).toBe(false)
    directories.makeOwn(1, 'job', 'modules', undefined)
    expect(existsSync(join(directories.makeOwn(1, 'job', 'modules', undefined), 'kept'))).toBe(false)
    await directories.removeOwn(own)
    expect(existsSync(own)).toBe(false)
  })
})
