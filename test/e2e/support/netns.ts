/**
 * A network of hosts on one machine: each a network namespace with an address on one bridge, where mDNS works and cables
 * can be pulled. Nothing of it touches the machine's own network. Root only, and removed after the test.
 *
 *     const net = await Network.create(['a', 'b'], t)
 *     await lab.up('founder', { within: net.within('a'), network: [] })
 *     await net.cut('b'); await net.heal('b')
 *     await net.part(['a'], ['b', 'c']); await net.join(['a', 'b', 'c'])
 */
import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

const run = promisify(execFile)

async function ip(...words: string[]): Promise<void> {
  await run('ip', words)
}

/** Why there can be no such network here; undefined when there can. */
export function whyNoNetwork(): string | undefined {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'network namespaces need root on Linux'
  const name = `bmtry${randomBytes(3).toString('hex')}`
  try {
    execFileSync('ip', ['netns', 'add', name], { stdio: 'pipe' })
    execFileSync('ip', ['netns', 'del', name], { stdio: 'pipe' })
    return undefined
  } catch (error) {
    return `network namespaces cannot be made here: ${(error as Error).message.split('\n')[0]}`
  }
}

export class Network {
  readonly #tag = `bm${randomBytes(3).toString('hex')}`
  readonly #hosts: readonly string[]
  /** Last number of each host's address. */
  readonly #numbers = new Map<string, number>()

  private constructor(hosts: readonly string[]) {
    this.#hosts = hosts
  }

  static async create(hosts: readonly string[], t: { onTestFinished(done: () => Promise<void>): void }): Promise<Network> {
    const network = new Network(hosts)
    t.onTestFinished(() => network.#remove())
    const hub = network.#namespace('hub')
    await ip('netns', 'add', hub)
    // Without snooping the bridge passes multicast on at once, and without spanning tree a port works as soon as it is up.
    await ip('-n', hub, 'link', 'add', 'br0', 'type', 'bridge', 'stp_state', '0', 'forward_delay', '0', 'mcast_snooping', '0')
    await ip('-n', hub, 'link', 'set', 'br0', 'up')
    for (const [index, host] of hosts.entries()) await network.#addHost(host, index + 1)
    return network
  }

  /** The words in front of a command that is to run on the host. */
  within(host: string): string[] {
    return ['ip', 'netns', 'exec', this.#namespace(host)]
  }

  addressOf(host: string): string {
    return `10.91.0.${this.#numbers.get(host)}`
  }

  /** Pulls the host's cable: packets are lost without a word, on both sides. */
  async cut(host: string): Promise<void> {
    await ip('-n', this.#namespace('hub'), 'link', 'set', this.#port(host), 'down')
  }

  async heal(host: string): Promise<void> {
    await ip('-n', this.#namespace('hub'), 'link', 'set', this.#port(host), 'up')
  }

  /** What these others send to the host is lost without a word; what it sends to them arrives. */
  async deafen(host: string, others: readonly string[]): Promise<void> {
    const from = others.map((other) => this.addressOf(other)).join(', ')
    await this.#nft(
      host,
      `add table ip bm; add chain ip bm in { type filter hook input priority 0; }; add rule ip bm in ip saddr { ${from} } drop`,
    )
  }

  /** Nothing passes between a host of one side and one of the other. */
  async part(side: readonly string[], other: readonly string[]): Promise<void> {
    for (const host of side) await this.deafen(host, other)
    for (const host of other) await this.deafen(host, side)
  }

  /** Ends what {@link deafen} and {@link part} did to these hosts. */
  async join(hosts: readonly string[]): Promise<void> {
    for (const host of hosts) await this.#nft(host, 'delete table ip bm')
  }

  async #nft(host: string, rules: string): Promise<void> {
    await run('ip', ['netns', 'exec', this.#namespace(host), 'nft', rules])
  }

  /** Gives the host another address, as a new lease of a router's does. */
  async move(host: string): Promise<void> {
    const namespace = this.#namespace(host)
    await ip('-n', namespace, 'address', 'flush', 'dev', 'eth0')
    this.#numbers.set(host, this.#numbers.get(host)! + 100)
    await this.#address(host)
  }

  async #addHost(host: string, number: number): Promise<void> {
    const [namespace, hub, port] = [this.#namespace(host), this.#namespace('hub'), this.#port(host)]
    this.#numbers.set(host, number)
    await ip('netns', 'add', namespace)
    await ip('-n', namespace, 'link', 'set', 'lo', 'up')
    await ip('link', 'add', 'eth0', 'netns', namespace, 'type', 'veth', 'peer', 'name', port, 'netns', hub)
    await ip('-n', hub, 'link', 'set', port, 'master', 'br0', 'up')
    await ip('-n', namespace, 'link', 'set', 'eth0', 'up')
    await this.#address(host)
  }

  async #address(host: string): Promise<void> {
    const namespace = this.#namespace(host)
    await ip('-n', namespace, 'address', 'add', `${this.addressOf(host)}/24`, 'dev', 'eth0')
    // What has no route to the outside has none for multicast either.
    await ip('-n', namespace, 'route', 'replace', 'default', 'dev', 'eth0')
  }

  async #remove(): Promise<void> {
    for (const host of [...this.#hosts, 'hub']) await ip('netns', 'del', this.#namespace(host)).catch(() => undefined)
  }

  #namespace(host: string): string {
    return `${this.#tag}-${host}`
  }

  /** The hub's end of the host's cable. */
  #port(host: string): string {
    return `to-${host}`
  }
}
