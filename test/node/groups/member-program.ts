/**
 * A member of a group in a process of its own: `node member-program.ts` says its card, learns the rank, cards and key, and then
 * does as it is told; it greets the next member of the ring by itself. Speaks with the test through the channel of child_process.fork.
 */
import type { Envelope } from '../../../node/groups/link.ts'
import { openMember } from '../../../node/groups/links/member.ts'

export type Told =
  | { rank: number; cards: Uint8Array[]; key: Uint8Array }
  /** Computes for so long, without a look at its connections. */
  | { busyMs: number }
  | { close: true }
export type Said = { card: Uint8Array } | { got: number; from: number } | { lost: number; why: string } | { busy: true } | { closed: true }

const say = (said: Said) => process.send!(said)
const member = await openMember({ addresses: ['127.0.0.1'] })
let close = async () => {}
process.on('message', (told: Told) => void heed(told))

async function heed(told: Told): Promise<void> {
  if ('busyMs' in told) {
    process.send!({ busy: true } satisfies Said, () => {
      const end = performance.now() + told.busyMs
      while (performance.now() < end);
    })
  } else if ('close' in told) {
    await close()
    say({ closed: true })
    process.disconnect()
  } else {
    const link = await member.join(told)
    close = () => link.close()
    link.receive({
      begin: (_from: number, { bytes }: Envelope) => new Uint8Array(bytes),
      end: (from, { tag }, data) => {
        say({ got: tag, from })
        // Every message but the first of a neighbour is answered with the same.
        if (tag > 0) link.send(from, { context: 2, tag, type: 0, bytes: data.length }, data)?.catch(() => undefined)
      },
      lost: (rank, error) => say({ lost: rank, why: error.message }),
    })
    const next = (told.rank + 1) % told.cards.length
    link.send(next, { context: 2, tag: 0, type: 0, bytes: 0 }, new Uint8Array())?.catch(() => undefined)
  }
}
process.on('disconnect', () => process.exit())
say({ card: member.card })
