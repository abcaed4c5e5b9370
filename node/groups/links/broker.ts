/**
 * What brings the threads of a process together, on its main thread: memory that several of them ask for by name, the rings
 * that they make for each other, and word of those that ended. No message of a group passes through it.
 */
import { randomBytes } from 'node:crypto'
import { MessageChannel, type MessagePort } from 'node:worker_threads'

export type ToBroker =
  | { join: string; rank: number }
  | { shared: string; ranks: readonly number[]; bytes: number; request: number }
  /** Memory that this member made, for another one of its group. */
  | { ring: SharedArrayBuffer; to: number }
  | { leave: true }

export type FromBroker =
  | { process: string }
  | { shared: SharedArrayBuffer | string; request: number }
  | { ring: SharedArrayBuffer; from: number }
  /** A member ended; with `hasLeft` on purpose. */
  | { gone: number; hasLeft: boolean }

interface Room {
  members: Map<number, MessagePort>
  /** Rings for members that have not come yet. */
  early: { ring: SharedArrayBuffer; from: number; to: number }[]
  /** By name and ranks: until all of them have asked. */
  memory: Map<string, { buffer: SharedArrayBuffer; asked: number }>
  gone: { gone: number; hasLeft: boolean }[]
}

export class Broker {
  /** Of this process: threads with the same name on their cards share memory. */
  readonly process = randomBytes(16).toString('hex')
  readonly #rooms = new Map<string, Room>()

  /** A port for one thread and one group, to be given to {@link openMember} there. */
  port(): MessagePort {
    const { port1, port2 } = new MessageChannel()
    const tell = (message: FromBroker) => port1.postMessage(message)
    let seat: { name: string; room: Room; rank: number } | undefined
    const leave = (hasLeft: boolean) => {
      if (seat === undefined) return
      const { name, room, rank } = seat
      seat = undefined
      room.members.delete(rank)
      const gone = { gone: rank, hasLeft }
      room.gone.push(gone)
      for (const port of room.members.values()) port.postMessage(gone satisfies FromBroker)
      if (room.members.size === 0) this.#rooms.delete(name)
    }
    port1.on('message', (told: ToBroker) => {
      if ('join' in told) {
        const room = this.#rooms.get(told.join) ?? { members: new Map(), early: [], memory: new Map(), gone: [] }
        this.#rooms.set(told.join, room)
        seat = { name: told.join, room, rank: told.rank }
        room.members.set(told.rank, port1)
        for (const { ring, from, to } of room.early) if (to === told.rank) tell({ ring, from })
        room.early = room.early.filter(({ to }) => to !== told.rank)
        for (const gone of room.gone) tell(gone)
      } else if ('leave' in told) leave(true)
      else if (seat === undefined) return
      else if ('ring' in told) {
        const target = seat.room.members.get(told.to)
        if (target === undefined) seat.room.early.push({ ring: told.ring, from: seat.rank, to: told.to })
        else target.postMessage({ ring: told.ring, from: seat.rank } satisfies FromBroker)
      } else tell({ shared: memoryOf(seat.room, told), request: told.request })
    })
    port1.on('close', () => leave(false))
    // What keeps the process alive is for others to say.
    port1.unref()
    tell({ process: this.process })
    return port2
  }
}

/** The same for all that ask with the same name; whoever asks last, it is forgotten here. */
function memoryOf(room: Room, { shared: name, ranks, bytes }: Extract<ToBroker, { shared: string }>): SharedArrayBuffer | string {
  const key = `${ranks.join(' ')} ${name}`
  let memory = room.memory.get(key)
  if (memory === undefined) {
    try {
      memory = { buffer: new SharedArrayBuffer(bytes), asked: 0 }
    } catch {
      return `${bytes} bytes of shared memory cannot be had.`
    }
    room.memory.set(key, memory)
  }
  if (memory.buffer.byteLength !== bytes)
    return `The shared memory "${name}" has ${memory.buffer.byteLength} bytes for one member and ${bytes} for another.`
  memory.asked += 1
  if (memory.asked === ranks.length) room.memory.delete(key)
  return memory.buffer
}
