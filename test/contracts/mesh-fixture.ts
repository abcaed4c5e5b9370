/** Real hosts of one mesh on 127.0.0.1 with ports of the system's choice, and temporary identities. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { enrol } from '../../node/enrol.ts'
import { createHost, type Host, type HostOptions } from '../../node/host.ts'
import { found, load } from '../../node/identity.ts'
import { Membership, type MembershipOptions } from '../../node/membership.ts'
import { type MembershipService, startMembership } from '../../node/membership-service.ts'
import type { InvitableRole } from '../../protocols/membership.ts'

export const onLoopback = { port: 0, addresses: ['/ip4/127.0.0.1'] }

export interface TestMember {
  dataDir: string
  /** Where it listens on 127.0.0.1. */
  port: number
  membership: Membership
  host: Host
  service: MembershipService
}

export interface JoinOptions extends MembershipOptions {
  roles?: InvitableRole[]
  host?: Partial<HostOptions>
}

/** A mesh with its founder; `join` enrols and starts further members, which stay connected with the founder. */
export class TestMesh {
  readonly founder: TestMember
  readonly #members: TestMember[] = []
  readonly #dirs: string[] = []

  private constructor(founder: TestMember) {
    this.founder = founder
    this.#members.push(founder)
    this.#dirs.push(founder.dataDir)
  }

  static async start(options: MembershipOptions & { host?: Partial<HostOptions> } = {}): Promise<TestMesh> {
    const dataDir = await temporaryDir()
    const membership = await Membership.open(await found(dataDir, options), options)
    return new TestMesh(await member(dataDir, membership, { listen: onLoopback, ...options.host }))
  }

  /** The same founder, restarted. */
  static async resume(before: TestMember, options: MembershipOptions): Promise<TestMesh> {
    before.service.stop()
    await before.host.stop()
    const membership = await Membership.open((await load(before.dataDir))!, options)
    const listen = { ...onLoopback, port: before.port }
    return new TestMesh(await member(before.dataDir, membership, { listen }))
  }

  async token(roles: InvitableRole[] = ['worker', 'submitter'], uses = 1): Promise<string> {
    return (await this.founder.service.invite({ roles, uses, expiresMs: 60_000 })).token
  }

  /** Enrols a machine and starts nothing. */
  async member(options: JoinOptions = {}): Promise<Membership> {
    return Membership.open(await enrol(await this.dir(), await this.token(options.roles)), options)
  }

  async join(options: JoinOptions = {}): Promise<TestMember> {
    const membership = await this.member(options)
    return this.open(this.#dirs.at(-1)!, membership, options.host)
  }

  /** Starts a member with an identity that is there already; unless told otherwise it dials the founder. */
  async open(dataDir: string, membership: Membership, host: Partial<HostOptions> = {}, dials = true): Promise<TestMember> {
    const joined = await member(dataDir, membership, { listen: onLoopback, ...host })
    this.#members.push(joined)
    if (dials) joined.host.keepConnected(this.founder.host.peer, this.founder.host.addresses())
    return joined
  }

  async dir(): Promise<string> {
    const dir = await temporaryDir()
    this.#dirs.push(dir)
    return dir
  }

  async stop(): Promise<void> {
    for (const { service, host } of this.#members) {
      service.stop()
      await host.stop()
    }
    for (const dir of this.#dirs) await rm(dir, { recursive: true, force: true })
  }
}

async function member(dataDir: string, membership: Membership, options: Partial<HostOptions>): Promise<TestMember> {
  const host = await createHost({ ...options, membership })
  const port = Number(/\/tcp\/(\d+)/.exec(host.addresses()[0] ?? '')?.[1] ?? 0)
  return { dataDir, port, membership, host, service: startMembership({ wire: host, membership, addresses: () => host.addresses() }) }
}

export function temporaryDir(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'batchmesh-test-'))
}

/** Resolves when `host` can speak with `peer`, or no longer can. */
export function connection(host: Host, peer: string, change: 'connected' | 'disconnected' = 'connected'): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = host.onConnection((other, what) => {
    if (other === peer && what === change) resolve()
  })
  return promise.finally(stop)
}
