/** A mesh whose founder is lost is put back from a backup elsewhere: its workers come back by themselves, and its work goes on. */
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { MeshLab } from './support/mesh-lab.ts'

it('L2: a mesh restored from a backup goes on: running work under its name, later work not taken for new', async (t) => {
  const lab = await MeshLab.create(t)
  const founder = await lab.up('founder', { args: ['--lend-cpus', '0'] })
  const worker = await lab.up('worker', { join: founder, args: ['--lend-cpus', '2'] })
  const go = join(lab.root, 'go')
  const until = (file: string) => `while [ ! -e ${file} ]; do sleep 0.1; done; echo done`
  expect((await lab.cli(founder, ['run', '--job-id', 'before', '--detach', until(go)])).code).toBe(0)
  await lab.until('the task runs', async () => (await lab.json(founder, ['task', 'show', 'before/0000'])).state === 'running')

  // While the node runs, and other programs write.
  const backup = join(lab.root, 'mesh.backup')
  expect((await lab.cli(founder, ['mesh', 'backup', backup])).code).toBe(0)
  await lab.cli(founder, ['run', '--job-id', 'after', '--detach', until(join(lab.root, 'never'))])
  await lab.until('a later task runs', async () => (await lab.json(founder, ['task', 'show', 'after/0000'])).state === 'running')
  const after = await lab.json(founder, ['job', 'show', 'after'])

  const port = Number(/tcp\/(\d+)/.exec((await lab.json(founder, ['status'])).node.addresses[0])![1])
  await founder.kill('SIGKILL')
  expect((await lab.cli('second', ['mesh', 'restore', backup])).code).toBe(0)
  expect(await readdir(lab.dataDir('second'))).toEqual(['coordinator', 'identity', 'settings.json'])
  // The same address as before: members dial it. Its options came with the backup.
  const second = await lab.up('second', { network: [] })
  expect((await lab.json(second, ['status'])).node.addresses[0]).toMatch(`/tcp/${port}/`)
  await lab.until('the worker is back', async () => (await lab.json(second, ['status'])).mesh.machines.connected === 2)
  expect((await lab.json(second, ['status'])).mesh.tasks, 'the running task is kept, not run again').toMatchObject({
    running: 1,
    active: 0,
  })

  await writeFile(go, '')
  expect(await lab.cli(second, ['job', 'wait', 'before'])).toMatchObject({ code: 0 })
  expect(await lab.json(second, ['task', 'show', 'before/0000'])).toMatchObject({ attempts: [{ epoch: 1, end: 'success' }] })
  // What was granted after the backup was stopped, and does not stand in the way of what is new.
  await lab.until('nothing runs', async () => (await lab.json(worker, ['status'])).node.runningTasks === 0)
  expect(await lab.cli(second, ['run', '--job-id', 'after', 'echo again'])).toMatchObject({ code: 0, stdout: 'again\n' })
  expect((await lab.json(second, ['job', 'show', 'after'])).uid).toBeGreaterThan(after.uid + 1_000_000)

  // The one that was replaced is not obeyed any more.
  await second.kill('SIGKILL')
  const old = await lab.up('founder')
  await lab.until('the worker refuses it', () => /CoordinatorExists|has been replaced|is deposed/.test(worker.log + old.log))
  expect((await lab.json(old, ['status'])).mesh.machines.connected).toBe(1)
})
