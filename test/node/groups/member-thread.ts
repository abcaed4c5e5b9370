/** A member in a thread: answers every message with the same, and ends without a goodbye after one with the tag 9. */
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import { type Meeting, openMember } from '../../../node/groups/links/member.ts'

const member = await openMember({ addresses: [], broker: (workerData as { port: MessagePort }).port })
parentPort!.on('message', async (meeting: Meeting) => {
  const link = await member.join(meeting)
  const memory = link.shared('m', [0, 1], 64)
  link.receive({
    begin: (_from, { bytes }) => new Uint8Array(bytes),
    end: async (from, envelope, data) => {
      new Int32Array((await memory)!)[3] = 77
      const sent = link.send(from, envelope, data)
      if (envelope.tag === 9) process.exit()
      await sent
    },
    lost: () => undefined,
  })
})
parentPort!.postMessage(member.card)
