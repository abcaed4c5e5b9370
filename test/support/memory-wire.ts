/** A mesh in memory: wires that reach each other as long as no cut is made. Frames arrive in a later turn, in order. */
import { MeshError } from '../../protocols/errors.ts'
import type { PeerIdText } from '../../protocols/ids.ts'
import type { Channel, CloseReason, Remote, Role, Service, Wire } from '../../protocols/wire.ts'

class MemoryChannel implements Channel {
  readonly remote: Remote
  readonly closed: Promise<CloseReason>
  other!: MemoryChannel
  #handler: ((frame: Uint8Array) => void) | undefined
  #inbox: Uint8Array[] = []
  #ended = false
  #resolve!: (reason: CloseReason) => void

  constructor(remote: Remote) {
    this.remote = remote
    this.closed = new Promise((resolve) => {
      this.#resolve = resolve
    })
  }

  send(frame: Uint8Array, tail?: Uint8Array): boolean {
    if (!this.#ended) this.other.#take(tail === undefined ? frame : new Uint8Array(Buffer.concat([frame, tail])))
    return true
  }
  async drained(): Promise<void> {}
  pause(): void {}
  resume(): void {}

  receive(handler: (frame: Uint8Array) => void): void {
    this.#handler = handler
    for (const frame of this.#inbox.splice(0)) this.#take(frame)
  }

  close(reason: CloseReason = 'local'): void {
    this.end(reason)
    this.other.end(reason === 'local' ? 'remote' : reason)
  }

  end(reason: CloseReason): void {
    this.#ended = true
    this.#resolve(reason)
  }

  #take(frame: Uint8Array): void {
    if (this.#handler === undefined) {
      this.#inbox.push(frame)
      return
    }
    const handler = this.#handler
    setImmediate(() => {
      if (!this.#ended) handler(frame)
    })
  }
}

export class MemoryNet {
  readonly #served = new Map<string, { service: Service; accept: (channel: Channel) => void }>()
  readonly #roles = new Map<PeerIdText, readonly Role[]>()
  readonly #channels = new Set<{ peers: PeerIdText[]; channel: MemoryChannel }>()
  readonly #away = new Set<PeerIdText>()
  readonly #topics = new Map<string, Set<{ peer: PeerIdText; handler: (data: Uint8Array, from: PeerIdText) => void }>>()

  wire(peer: PeerIdText, roles: readonly Role[]): Wire {
    this.#roles.set(peer, roles)
    return {
      peer,
      open: async (to, service) => {
        const served = this.#served.get(`${to} ${service.protocol}`)
        if (served === undefined || this.#away.has(to) || this.#away.has(peer))
          throw new MeshError('Unreachable', `${to} cannot be reached.`)
        const near = new MemoryChannel({ peer: to, roles: this.#roles.get(to) ?? [] })
        const far = new MemoryChannel({ peer, roles })
        near.other = far
        far.other = near
        this.#channels.add({ peers: [peer, to], channel: near })
        served.accept(far)
        return near
      },
      serve: (service, accept) => {
        const key = `${peer} ${service.protocol}`
        this.#served.set(key, { service, accept })
        return () => this.#served.delete(key)
      },
      learn: () => undefined,
      addresses: () => [],
      probe: async () => 'unknown',
      publish: (topic, data) => {
        for (const { peer: to, handler } of this.#topics.get(topic) ?? [])
          if (to !== peer && !this.#away.has(to) && !this.#away.has(peer)) setImmediate(() => handler(data, peer))
      },
      subscribe: (topic, handler) => {
        const entry = { peer, handler }
        const handlers = this.#topics.get(topic) ?? new Set()
        this.#topics.set(topic, handlers.add(entry))
        return () => void handlers.delete(entry)
      },
    }
  }

  /** Breaks every channel of a peer and lets nobody reach it until {@link heal}. */
  cut(peer: PeerIdText): void {
    this.#away.add(peer)
    for (const entry of this.#channels) {
      if (!entry.peers.includes(peer)) continue
      this.#channels.delete(entry)
      entry.channel.close('lost')
    }
  }

  /** Its process dies: what it has sent arrives, nothing after that goes in or out of it, and nobody reaches it until {@link heal}. */
  die(peer: PeerIdText): void {
    this.#away.add(peer)
    for (const entry of this.#channels) {
      if (!entry.peers.includes(peer)) continue
      this.#channels.delete(entry)
      const [its, others] = entry.peers[0] === peer ? [entry.channel, entry.channel.other] : [entry.channel.other, entry.channel]
      its.end('lost')
      setImmediate(() => others.end('lost'))
    }
  }

  heal(peer: PeerIdText): void {
    this.#away.delete(peer)
  }
}
