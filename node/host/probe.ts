/** Whether anybody listens at a TCP address: the quickest way to tell a dead process from a cut path (L7). */
import { connect } from 'node:net'

/** `refused`: the machine answered that nobody listens. */
export function knock(host: string, port: number, signal: AbortSignal): Promise<'open' | 'refused' | 'unknown'> {
  return new Promise((resolve) => {
    const socket = connect({ host, port })
    const done = (result: 'open' | 'refused' | 'unknown') => {
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      resolve(result)
    }
    const onAbort = () => done('unknown')
    if (signal.aborted) return onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('connect', () => done('open'))
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code === 'ECONNREFUSED' ? 'refused' : 'unknown'))
  })
}
