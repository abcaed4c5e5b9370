/**
 * Where peers can be dialled, kept over restarts (`peers.json` in the data directory). All of it is hints: who answers
 * at an address is proven by the handshake.
 */
import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { z } from 'zod'
import type { PeerIdText } from '../../protocols/ids.ts'
import { replaceFile } from '../sealed-file.ts'

/** Addresses kept of one peer: more interfaces than a machine has; the one heard of longest ago goes first. */
const maxAddresses = 16

/** Peers kept; the one heard of longest ago goes first. */
const maxPeers = 2000

/** Changes are written together, this long after the first. */
const saveDelayMs = 2000

const fileSchema = z.record(z.string(), z.array(z.string().max(512)).max(64))

interface Known {
  /** Newest last. */
  addresses: string[]
  /** Addresses that this peer, proven, answered at. */
  answered: Set<string>
  /** Hosts that its connections came from. */
  cameFrom: Set<string>
}

export class AddressBook {
  readonly #path: string | undefined
  readonly #peers = new Map<PeerIdText, Known>()
  #timer: ReturnType<typeof setTimeout> | undefined

  private constructor(path: string | undefined) {
    this.#path = path
  }

  /** Without a directory nothing is remembered. An unreadable file is as good as none. */
  static async open(dataDir: string | undefined): Promise<AddressBook> {
    const path = dataDir === undefined ? undefined : join(dataDir, 'peers.json')
    const book = new AddressBook(path)
    if (path === undefined) return book
    const text = await readFile(path, 'utf8').catch(() => '{}')
    for (const [peer, addresses] of Object.entries(parseFile(text))) book.learn(peer, addresses)
    clearTimeout(book.#timer)
    book.#timer = undefined
    return book
  }

  learn(peer: PeerIdText, addresses: readonly string[]): void {
    const known = this.#entry(peer)
    for (const text of addresses) {
      const address = plainTcpAddress(text, peer)
      if (address === undefined) continue
      const at = known.addresses.indexOf(address)
      if (at >= 0) known.addresses.splice(at, 1)
      else this.#scheduleSave()
      known.addresses.push(address)
    }
    for (const forgotten of known.addresses.splice(0, Math.max(0, known.addresses.length - maxAddresses))) known.answered.delete(forgotten)
  }

  /** The peer, proven, answered a dial at this address. */
  answered(peer: PeerIdText, text: string): void {
    this.learn(peer, [text])
    const address = plainTcpAddress(text, peer)
    if (address !== undefined) this.#entry(peer).answered.add(address)
  }

  /** A connection of the peer, proven, came from this address (its port means nothing). */
  cameFrom(peer: PeerIdText, text: string): void {
    const host = hostOf(text)
    if (host !== undefined) this.#entry(peer).cameFrom.add(host)
  }

  /** Where to dial the peer, best first. */
  of(peer: PeerIdText): Multiaddr[] {
    const known = this.#peers.get(peer)
    if (known === undefined) return []
    const newestFirst = [...known.addresses].reverse()
    const sorted = newestFirst.filter((address) => known.answered.has(address))
    sorted.push(...newestFirst.filter((address) => !known.answered.has(address)))
    return sorted.map((address) => multiaddr(`${address}/p2p/${peer}`))
  }

  /**
   * Addresses at which silence of the peer's own port means that its process is gone: those that it answered at, or that it
   * announced and its connections came from; those merely heard of only while it was never seen. A peer on this very
   * machine may announce one of the machine's addresses and come from another, so `ownHosts` count as one.
   */
  telling(peer: PeerIdText, ownHosts: ReadonlySet<string> = hostsOfMachine()): { host: string; port: number; address: string }[] {
    const known = this.#peers.get(peer)
    if (known === undefined) return []
    const seen = known.answered.size > 0 || known.cameFrom.size > 0
    const isHere = [...known.cameFrom].some((host) => ownHosts.has(host))
    const cameFrom = (host: string) => known.cameFrom.has(host) || (isHere && ownHosts.has(host))
    return known.addresses
      .filter((address) => !seen || known.answered.has(address) || cameFrom(hostOf(address) ?? ''))
      .flatMap((address) => {
        const target = targetOf(address)
        return target === undefined ? [] : [{ ...target, address }]
      })
  }

  async close(): Promise<void> {
    if (this.#timer === undefined) return
    clearTimeout(this.#timer)
    await this.#save()
  }

  #entry(peer: PeerIdText): Known {
    const known = this.#peers.get(peer) ?? { addresses: [], answered: new Set(), cameFrom: new Set() }
    this.#peers.delete(peer)
    this.#peers.set(peer, known)
    if (this.#peers.size > maxPeers) this.#peers.delete(this.#peers.keys().next().value!)
    return known
  }

  #scheduleSave(): void {
    if (this.#path === undefined || this.#timer !== undefined) return
    this.#timer = setTimeout(() => void this.#save(), saveDelayMs)
    this.#timer.unref()
  }

  async #save(): Promise<void> {
    this.#timer = undefined
    const peers = Object.fromEntries([...this.#peers].map(([peer, known]) => [peer, known.addresses]))
    // A full disk costs the memory of addresses, not the node.
    await replaceFile(this.#path!, new TextEncoder().encode(JSON.stringify(peers))).catch(() => {})
  }
}

/** A TCP address without the peer id; undefined for any other, or another peer's. */
function plainTcpAddress(text: string, peer: PeerIdText): string | undefined {
  try {
    const parts = multiaddr(text).getComponents()
    const last = parts.at(-1)
    if (last?.name === 'p2p' && last.value !== peer) return undefined
    const plain = last?.name === 'p2p' ? parts.slice(0, -1) : parts
    if (plain.length < 2 || plain.at(-1)?.name !== 'tcp' || plain.at(-1)?.value === '0') return undefined
    const [host] = plain
    if (host?.value === '0.0.0.0' || host?.value === '::') return undefined
    return plain.map((part) => `/${part.name}/${part.value}`).join('')
  } catch {
    return undefined
  }
}

/** Host and port of a plain TCP address. */
function targetOf(address: string): { host: string; port: number } | undefined {
  const words = address.split('/')
  const [port, tcp, host] = [words.at(-1), words.at(-2), words.at(-3)]
  return tcp === 'tcp' && host !== undefined ? { host, port: Number(port) } : undefined
}

/** The address or name of the machine that a multiaddr begins with. */
export function hostOf(text: string): string | undefined {
  return /^\/(?:ip4|ip6|dns|dns4|dns6)\/([^/]+)/.exec(text)?.[1]
}

/** The IP addresses of this machine's interfaces. */
function hostsOfMachine(): Set<string> {
  return new Set(Object.values(networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => address)))
}

function parseFile(text: string): Record<string, string[]> {
  try {
    return fileSchema.safeParse(JSON.parse(text)).data ?? {}
  } catch {
    return {}
  }
}

/** The peer id that a multiaddr ends with. Throws InvalidMultiaddrError for what is no multiaddr. */
export function peerOf(address: string): PeerIdText | undefined {
  const last = multiaddr(address).getComponents().at(-1)
  return last?.name === 'p2p' ? last.value : undefined
}
