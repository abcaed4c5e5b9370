/** A mesh that is cut in two, a path that works in one direction only, and a coordinator that hangs. One mesh goes through all. */
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { MeshLab, type NodeProcess } from './support/mesh-lab.ts'
import { Network, whyNoNetwork } from './support/netns.ts'
import { counted, jobOf, lendNone, sh, submit, succeed, Traces, tasksOf } from './support/work.ts'

const noNetwork = whyNoNetwork()
if (noNetwork !== undefined) console.warn(`tests between network namespaces are skipped: ${noNetwork}`)

const workers = ['a', 'b', 'c', 'd']

/** A job of one task for each worker, each behind its own gate, once all run; where each runs. */
async function spread(lab: MeshLab, founder: NodeProcess, traces: Traces, jobId: string): Promise<Map<string, string>> {
  const starts = await traces.file(`${jobId}-starts`)
  const tasks = await Promise.all(
    workers.map(async (_, n) => {
      const gate = await traces.file(`${jobId}-t${n}`)
      return { id: `t${n}`, commandLine: sh(`echo t${n} >> ${starts}; ${Traces.gate(gate)}`) }
    }),
  )
  await submit(lab, founder, jobId, tasks, { disconnect: { lostAfterMs: 1000 } })
  await lab.until('all run', async () => (await jobOf(lab, founder, jobId)).counts.running === workers.length)
  return new Map((await tasksOf(lab, founder, jobId)).map((task) => [task.id, task.nodeInfo!.machineName!]))
}

/** Each task has one result, of a machine that could be heard; what was cut off ran twice, the rest once. */
async function expectOnce(lab: MeshLab, founder: NodeProcess, traces: Traces, jobId: string, places: Map<string, string>, cut: string[]) {
  for (const { id, nodeInfo, executionInfo } of await tasksOf(lab, founder, jobId)) {
    const wasCut = cut.includes(places.get(id)!)
    expect(cut).not.toContain(nodeInfo?.machineName)
    expect(executionInfo).toMatchObject({ result: 'success', retryCount: 0, requeueCount: wasCut ? 1 : 0 })
    expect(counted(await traces.lines(`${jobId}-starts`)).get(id)).toBe(wasCut ? 2 : 1)
  }
}

describe('a network', () => {
  it.skipIf(noNetwork !== undefined)(
    'L1 L2 L3 L7: that parts half of the mesh from the founder, or carries in one direction only, costs what a cut costs, and heals; a coordinator that hangs costs nothing',
    async (t) => {
      const lab = await MeshLab.create(t)
      const net = await Network.create(['f', ...workers], t)
      const traces = await Traces.create(lab)
      const at = (host: string) => ({ within: net.within(host), network: ['--port', '0', '--no-mdns'] })
      const founder = await lab.up('f', { args: lendNone, ...at('f') })
      await Promise.all(workers.map((name) => lab.up(name, { join: founder, args: ['--lend-cpus', '1'], ...at(name) })))

      const first = await spread(lab, founder, traces, 'parted')
      await net.part(['f', 'a', 'b'], ['c', 'd'])
      // What is cut off ends, unheard.
      for (const task of first.keys()) await traces.open(`parted-${task}`)
      await succeed(lab, founder, 'parted')
      await net.join(['f', 'a', 'b', 'c', 'd'])
      await expectOnce(lab, founder, traces, 'parted', first, ['c', 'd'])

      // Every machine gets one of these.
      const second = await spread(lab, founder, traces, 'deaf')
      expect(new Set(second.values())).toEqual(new Set(workers))
      await expectOnce(lab, founder, traces, 'parted', first, ['c', 'd'])
      await net.deafen('d', ['f'])
      for (const [task, machine] of second) if (machine !== 'd') await traces.open(`deaf-${task}`)
      await lab.until('its task runs elsewhere', async () => (await traces.lines('deaf-starts')).length === workers.length + 1)
      for (const task of second.keys()) await traces.open(`deaf-${task}`)
      await succeed(lab, founder, 'deaf')
      await net.join(['d'])
      const third = await spread(lab, founder, traces, 'whole')
      expect(new Set(third.values())).toEqual(new Set(workers))
      await expectOnce(lab, founder, traces, 'deaf', second, ['d'])

      // The coordinator hangs for longer than a lease may be silent: two heartbeats of 5 s.
      await founder.kill('SIGSTOP')
      for (const task of third.keys()) await traces.open(`whole-${task}`)
      await pause(12_000)
      await founder.kill('SIGCONT')
      await succeed(lab, founder, 'whole')
      await expectOnce(lab, founder, traces, 'whole', third, [])
    },
  )
})
