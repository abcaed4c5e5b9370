/** A socket of Node as a byte duplex: the control socket, at both ends. */
import type { Socket } from 'node:net'
import type { ByteDuplex } from '../protocols/stream-channel.ts'

export function duplexOfSocket(socket: Socket): ByteDuplex {
  return {
    listen(events) {
      socket.on('data', (chunk: Buffer) => events.data(chunk))
      socket.on('drain', () => events.drain())
      socket.on('end', () => events.end())
      socket.on('close', () => events.end())
      // 'close' follows, and says all that matters.
      socket.on('error', () => {})
    },
    write: (bytes) => socket.write(bytes),
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    end: () => void socket.end(),
    destroy: () => void socket.destroy(),
  }
}

/** Longest path of a unix socket in bytes; the kernel refuses longer ones with a message that names nothing. */
export const maxSocketPathBytes = process.platform === 'darwin' ? 103 : 107
