/** Programs that run the tasks of one command line themselves. */
import type { Peer } from './peer.ts'
import { program } from './place.ts'

export const xargs: Peer = {
  name: 'xargs -P2',
  kind: 'command',
  tasks: 8000,
  durable: 'no: a loop',
  lostWithServer: 'everything',
  start: async (place) => ({
    run: async (tasks) => {
      await place.run(['sh', '-c', `seq ${tasks} | xargs -P2 -n1 /bin/true`])
    },
  }),
}

export const parallel: Peer = {
  name: 'GNU parallel -j2',
  kind: 'command',
  tasks: 1500,
  durable: 'a log of ended tasks, not synced',
  lostWithServer: 'goes on with --resume',
  start: async (place) => {
    const command = program('parallel', 'parallel')
    return {
      run: async (tasks) => {
        const script = `rm -f joblog; seq ${tasks} | ${command} --will-cite --joblog joblog -j2 /bin/true`
        await place.run(['sh', '-c', script], { env: { ...process.env, HOME: place.dir } })
      },
    }
  },
}
