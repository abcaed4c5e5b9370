import { readdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, it, type TestContext } from 'vitest'
import type { IsolationTier } from '../../protocols/model/machine.ts'
import { isRoot, processesOf, wildCount, wildScript, wildTag } from '../node/task-lab.ts'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { cores, jobOf, lendAll, sh, submit, succeed, Traces, taskOf } from './support/work.ts'

let lab: MeshLab
let node: NodeProcess
let tier: IsolationTier
let traces: Traces

beforeEach(async (t) => {
  lab = await MeshLab.create(t)
  traces = await Traces.create(lab)
  node = await lab.up('node', { args: lendAll })
  tier = (await lab.json(node, ['machine', 'show', 'node'])).isolation
})

if (!isRoot) console.log('skipped: tasks have users of their own only where the node is root')
if (cores < 2) console.log('skipped: one core runs no two tasks at once')

const logs = async (ref: string) => (await lab.cli(node, ['task', 'logs', ref])).stdout

describe('a task’s processes', () => {
  /** Daemons of every kind; where the node has neither namespaces nor root, one that hides its traces gets away. */
  const escaping = () => (tier === 'process-group' && !isRoot ? 1 : 0)
  const gone = (tag: string) => lab.until('no process is left', () => processesOf(tag).length === escaping())
  const clear = (t: TestContext, tag: string) =>
    t.onTestFinished(() => {
      for (const pid of processesOf(tag)) process.kill(pid, 'SIGKILL')
    })

  async function wild(t: TestContext, last: string): Promise<string> {
    const tag = wildTag()
    clear(t, tag)
    await submit(lab, node, 'wild', [{ id: 't', commandLine: sh(wildScript(tag, last)) }])
    return tag
  }

  it('end with it', async (t) => {
    const gate = await traces.file('gate')
    const tag = await wild(t, Traces.gate(gate))
    await lab.until('all run', () => processesOf(tag).length === wildCount)
    await traces.open('gate')
    await succeed(lab, node, 'wild')
    await gone(tag)
  })

  it('end when it is stopped, double-forked and deaf to SIGTERM as they may be', async (t) => {
    const tag = await wild(t, 'trap "" TERM; sleep 600')
    await lab.until('all run', () => processesOf(tag).length === wildCount)
    expect((await lab.cli(node, ['task', 'stop', 'wild/t'])).code).toBe(0)
    await gone(tag)
    expect((await taskOf(lab, node, 'wild/t')).executionInfo.failureInfo?.code).toBe('TaskEnded')
  })

  it('end when its job is deleted', async (t) => {
    const tag = await wild(t, 'sleep 600')
    await lab.until('all run', () => processesOf(tag).length === wildCount)
    expect((await lab.cli(node, ['job', 'delete', 'wild'])).code).toBe(0)
    await gone(tag)
  })

  it('end with a node that is killed, so that nothing runs twice unseen', async (t) => {
    const tag = await wild(t, 'sleep 600')
    await lab.until('all run', () => processesOf(tag).length === wildCount)
    await node.kill()
    await gone(tag)
  })
})

describe('S1: a task', () => {
  it.skipIf(!isRoot)('runs as an unprivileged user, one for each slot, where the node is root', async () => {
    const gate = await traces.file('gate')
    const ids = await traces.file('ids')
    const tasks = Array.from({ length: cores }, (_, n) => ({ id: `t${n}`, commandLine: sh(`id -u >> ${ids}; ${Traces.gate(gate)}`) }))
    await submit(lab, node, 'who', tasks)
    await lab.until('all run', async () => (await jobOf(lab, node, 'who')).counts.running === cores)
    await lab.until('all have said who they are', async () => (await traces.lines('ids')).length === cores)
    await writeFile(gate, 'open\n')
    await succeed(lab, node, 'who')
    const users = (await traces.lines('ids')).map(Number)
    expect(new Set(users).size).toBe(cores)
    for (const user of users) expect(user).toBeGreaterThan(1000)
    expect(tier).toBe('user+pidns')
  })

  it('reaches neither the identity of its node, nor its control socket, nor its store', async (t) => {
    t.skip(tier === 'process-group' && !isRoot, 'without namespaces and users nothing is hidden')
    const dir = node.dataDir
    const files = ['identity', 'run', 'journal', 'coordinator', 'blobs'].map((name) => join(dir, name))
    // They are there, to begin with.
    for (const path of files) expect(readdirSync(path)).toBeDefined()
    const look = files.map((path) => `find ${path} -type f -exec cat {} + 2>/dev/null | wc -c; find ${path} -type s 2>/dev/null | wc -l`)
    await submit(lab, node, 'spy', [{ id: 't', commandLine: sh(`${look.join('; ')}; kill -0 ${node.pid} 2>/dev/null && echo alive`) }])
    await lab.cli(node, ['job', 'wait', 'spy'])
    expect(await logs('spy/t')).toBe('0\n'.repeat(2 * files.length))
  })

  it.skipIf(cores < 2)('sees neither the files nor the processes of another job', async (t) => {
    t.skip(tier === 'process-group', 'without namespaces nothing is hidden')
    const gate = await traces.file('gate')
    const tag = wildTag()
    await submit(lab, node, 'secret', [{ id: 't', commandLine: sh(`echo hush > secret; sleep ${tag} & ${Traces.gate(gate)}`) }])
    await lab.until('it runs', () => processesOf(tag).length === 1)
    const { nodeInfo } = await taskOf(lab, node, 'secret/t')
    const directory = join(node.dataDir, 'tasks', nodeInfo!.taskRootDirectory)
    const look = `cat ${directory}/wd/secret ${directory}/stdout.txt; ls ${directory}; cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c -x '[s]leep'`
    await submit(lab, node, 'spy', [{ id: 't', commandLine: sh(`(${look}) 2>/dev/null`) }])
    await lab.cli(node, ['job', 'wait', 'spy'])
    expect(await logs('spy/t')).toBe('0\n')
    await traces.open('gate')
    await succeed(lab, node, 'secret')
  })
})
