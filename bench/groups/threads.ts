/**
 * A group of threads of one process, by shared memory: `node bench/groups/threads.ts MEMBERS PLAN` prints the
 * {@link Figures} of member 0 as JSON.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { isMainThread, type MessagePort, parentPort, Worker, workerData } from 'node:worker_threads'
import { Broker } from '../../node/groups/links/broker.ts'
import { type Meeting, openMember } from '../../node/groups/links/member.ts'
import { openGroup } from '../../node/groups/open.ts'
import { allreduceMs, type Figures, latencyUs, type Plan, streamed } from './figures.ts'

if (isMainThread) {
  const [members, plan] = [Number(process.argv[2]), JSON.parse(process.argv[3]!) as Plan]
  const broker = new Broker()
  const threads = Array.from({ length: members }, () => {
    const port = broker.port()
    return new Worker(new URL(import.meta.url), { workerData: { port, plan }, transferList: [port] })
  })
  const cards = (await Promise.all(threads.map((thread) => once(thread, 'message')))).map(([card]) => card as Uint8Array)
  const key = new Uint8Array(randomBytes(32))
  for (const [rank, thread] of threads.entries()) thread.postMessage({ rank, cards, key } satisfies Meeting)
  const [figures] = await once(threads[0]!, 'message')
  console.log(JSON.stringify(figures))
} else {
  const { port, plan } = workerData as { port: MessagePort; plan: Plan }
  const member = await openMember({ addresses: [], broker: port })
  parentPort!.postMessage(member.card)
  const [meeting] = (await once(parentPort!, 'message')) as [Meeting]
  const group = openGroup(await member.join(meeting))
  const figures: Figures = {
    allreduceMs: await allreduceMs(group, plan),
    latencyUs: await latencyUs(group, plan),
    streamed: await streamed(group, plan),
  }
  await group.close()
  if (meeting.rank === 0) parentPort!.postMessage(figures)
}
