/**
 * A libp2p stream as a byte duplex. It is paused whenever the channel holds, so that yamux's window (1 MiB, see the
 * host) bounds what waits; `for await` and `lpStream` would buffer without bound.
 */
import type { Stream } from '@libp2p/interface'
import type { ByteDuplex, DuplexEvents } from '../../protocols/stream-channel.ts'

export function duplexOf(stream: Stream): ByteDuplex {
  return {
    listen(events: DuplexEvents) {
      stream.addEventListener('message', (event) => {
        if (event.data instanceof Uint8Array) events.data(event.data)
        else for (const part of event.data) events.data(part)
      })
      stream.addEventListener('drain', () => events.drain())
      stream.addEventListener('end', () => events.end())
      stream.addEventListener('close', () => events.end())
    },
    write: (bytes) => stream.send(bytes),
    pause() {
      if (readable(stream)) stream.pause()
    },
    resume() {
      if (readable(stream)) stream.resume()
    },
    end() {
      stream.close({ signal: AbortSignal.timeout(10_000) }).catch(() => stream.abort(new Error('closed')))
    },
    destroy: () => stream.abort(new Error('closed')),
  }
}

function readable(stream: Stream): boolean {
  return stream.readStatus === 'readable' || stream.readStatus === 'paused'
}
