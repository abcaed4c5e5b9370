/** A member in a thread: answers every message with the same, and ends without a goodbye after one with the tag 9. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Receiver } from '../../../node/groups/link.ts'
import { type Meeting, openMember } from '../../../node/groups/links/member.ts'

const member = await openMember({ addresses: [], broker: (workerData as { port: MessagePort }).port })
parentPort!.on('message', (meeting: Meeting) => void serve(meeting))
parentPort!.postMessage(member.card)

async function serve(meeting: Meeting): Promise<void> {
  const link = await member.join(meeting)
  const memory = link.shared('m', [0, 1], 64)
  const answer = async (...[from, envelope, data]: Parameters<Receiver['end']>) => {
    new Int32Array((await memory)!)[3] = 77
    const sent = link.send(from, envelope, data)
    if (envelope.tag === 9) process.exit()
    await sent
  }
  link.receive({
    begin: (_from, { bytes }) => new Uint8Array(bytes),
    end: (...message) => void answer(...message),
    lost: () => undefined,
  })
}
