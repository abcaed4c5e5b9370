/** Processes that really die at a failpoint, in the middle of what they do to files; and that no failpoint is without a test. */
import { spawn } from 'node:child_process'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { load, sweepIdentity } from '../node/identity.ts'
import { Membership } from '../node/membership.ts'
import { closeHashPool } from '../node/store/hash-pool.ts'
import { openStore } from '../node/store/store.ts'
import { type FailpointName, failpoints } from '../protocols/failpoint.ts'
import { TestMesh } from './contracts/mesh-fixture.ts'
import { strayFiles, strayTasks } from './long/leftovers.ts'

const child = fileURLToPath(new URL('support/crash-child.ts', import.meta.url))

/** What passes each failpoint, and at which passing it dies there. */
const things: Record<string, [thing: string, nth: number]> = {
  'blobs.file.renamed': ['blobs', 1],
  'blobs.rows.writing': ['blobs', 2],
  'blobs.rows.synced': ['blobs', 1],
  'blobs.partial.sealed': ['blobs', 1],
  'blobs.sweep.trashed': ['blobs', 1],
  'blobs.sweep.forgotten': ['blobs', 1],
  'blobs.damage.listed': ['blobs', 1],
  'file.replace.written': ['identity', 5],
  'file.replace.renamed': ['identity', 6],
  'founding.root.saved': ['identity', 1],
  'founding.registry.saved': ['identity', 1],
  'restore.files.made': ['backup', 1],
  'restore.rows.moved': ['backup', 1],
  'registry.change.saved': ['identity', 1],
  'membership.certificate.saved': ['identity', 1],
  'membership.revocations.saved': ['identity', 1],
  'enrol.key.made': ['enrol', 1],
  'enrol.founder.answered': ['enrol', 1],
  'enrol.membership.saved': ['enrol', 1],
  'directory.task.made': ['directories', 1],
  'directory.task.sealing': ['directories', 1],
  'directory.task.discarded': ['directories', 1],
  'coordinator.restore.added': ['restore', 1],
  'coordinator.restore.finished': ['restore', 1],
}

let dir: string
let mesh: TestMesh | undefined
afterEach(async () => {
  await mesh?.stop()
  mesh = undefined
  await rm(dir, { recursive: true, force: true })
})
afterAll(closeHashPool)

interface Ran {
  promised: string[]
  stderr: string
  signal: NodeJS.Signals | null
}

/** Not waited for in the way of this process: a founder in it has to answer. */
function run(thing: string, token: string | undefined, failpoint?: string): Promise<Ran> {
  const env = { ...process.env, ...(failpoint === undefined ? {} : { BATCHMESH_FAILPOINTS: failpoint }) }
  const process_ = spawn(process.execPath, [child, thing, dir, ...(token === undefined ? [] : [token])], { env })
  const out = { stdout: '', stderr: '' }
  process_.stdout.on('data', (data: Buffer) => {
    out.stdout += data.toString()
  })
  process_.stderr.on('data', (data: Buffer) => {
    out.stderr += data.toString()
  })
  return new Promise((resolve) =>
    process_.once('close', (_code, signal) =>
      resolve({ promised: out.stdout.split('\n').filter((line) => line !== ''), stderr: out.stderr, signal }),
    ),
  )
}

/** What was promised before holds now. */
async function check(promised: readonly string[]): Promise<void> {
  for (const line of promised) {
    const [what, value] = line.split(' ') as [string, string]
    if (what === 'blob') {
      const store = await openStore(join(dir, 'blobs'))
      expect(await store.chunk(value, 0)).toHaveLength(1 << 20)
      await store.close()
    }
    const identity = ['mesh', 'serial', 'revocations', 'member'].includes(what) ? await load(dir) : undefined
    if (what === 'mesh') expect(identity?.record.mesh).toBe(value)
    if (what === 'member') expect(identity?.peer).toBe(value)
    const membership = identity === undefined ? undefined : await Membership.open(identity)
    if (what === 'serial') expect(membership!.certificate.serial).toBeGreaterThanOrEqual(Number(value))
    if (what === 'revocations') expect(membership!.revocationsNumber).toBeGreaterThanOrEqual(Number(value))
  }
}

describe('a process that dies keeps what it promised, does the rest when it is started again, and leaves nothing half done', () => {
  it.each(Object.entries(things))(
    'at %s',
    async (name, [thing, nth]) => {
      dir = await mkdtemp(join(tmpdir(), 'batchmesh-die-'))
      mesh = thing === 'enrol' ? await TestMesh.start() : undefined
      const token = await mesh?.token(['worker'], 1)
      const first = await run(thing, token, `${name}=crash@${nth}`)
      expect(first).toMatchObject({ signal: 'SIGKILL', stderr: expect.stringContaining(`failpoint ${name}: crash`) })
      await check(first.promised)
      await sweepIdentity(dir)
      const second = await run(thing, token)
      expect(second.stderr).toBe('')
      expect(await readdir(dir)).toContain('whole')
      await check([...first.promised, ...second.promised])
      const strays = await strayFiles(dir)
      // The damaged copy is there to be mended.
      expect(strays.filter((path) => !path.includes('/other/'))).toEqual([])
      if (thing === 'directories') expect(await strayTasks(dir)).toEqual([])
    },
    120_000,
  )
})

it('no failpoint is without a test that dies there', () => {
  const others = /^(coordinator\.(boot|batch|effect|purge)|worker|journal)\./
  const untested = (Object.keys(failpoints) as FailpointName[]).filter((name) => !others.test(name) && things[name] === undefined)
  expect(untested).toEqual([])
  expect(Object.keys(things).filter((name) => !Object.hasOwn(failpoints, name))).toEqual([])
})
