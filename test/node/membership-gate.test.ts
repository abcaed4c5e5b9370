/** S1 and G1 against a bare libp2p client: whatever it shows, without a certificate that holds it gets nothing. */
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import { type GossipSub, gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import type { PrivateKey } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { afterEach, describe, expect, it } from 'vitest'
import { duplexOf } from '../../node/host/streams.ts'
import { load, signCertificate } from '../../node/identity.ts'
import { toMeshError } from '../../protocols/errors.ts'
import { enrolProtocol, helloProtocol, membershipProtocol } from '../../protocols/membership.ts'
import { checkVerdict } from '../../protocols/opening.ts'
import { clientSession } from '../../protocols/rpc.ts'
import { StreamChannel } from '../../protocols/stream-channel.ts'
import type { Channel, Service } from '../../protocols/wire.ts'
import { connection, TestMesh } from '../contracts/mesh-fixture.ts'

const topic = '/test/announcements'
const services: Service[] = [
  { protocol: '/test/any-member/1', requires: [], maxFrameBytes: 1024 },
  { protocol: '/test/worker/1', requires: ['worker'], maxFrameBytes: 1024 },
  { protocol: '/test/admin/1', requires: ['admin', 'submitter'], maxFrameBytes: 1024 },
]
const gossipProtocols = ['/meshsub/1.2.0', '/meshsub/1.1.0', '/meshsub/1.0.0']
const meshIdBytes = 51

/** Plain libp2p with gossipsub: what anybody can write. */
class Bare {
  readonly node: Libp2p<{ pubsub: GossipSub }>
  readonly received: string[] = []
  session: ReturnType<typeof clientSession<typeof helloProtocol.client, typeof helloProtocol.server>> | undefined

  private constructor(node: Libp2p<{ pubsub: GossipSub }>) {
    this.node = node
    node.services.pubsub.addEventListener('gossipsub:message', (event) =>
      this.received.push(new TextDecoder().decode(event.detail.msg.data)),
    )
    node.services.pubsub.subscribe(topic)
  }

  static async start(privateKey: PrivateKey): Promise<Bare> {
    const node = await createLibp2p({
      privateKey,
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify(), ping: ping(), pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, floodPublish: true }) },
    })
    return new Bare(node)
  }

  get peer(): string {
    return this.node.peerId.toString()
  }

  async channel(address: string, service: Service): Promise<StreamChannel> {
    const stream = await this.node.dialProtocol(multiaddr(address), service.protocol)
    return new StreamChannel(duplexOf(stream), { peer: 'the-host', roles: [] }, service.maxFrameBytes)
  }

  /** Opens a channel as members do; the refusal, or 'accepted'. */
  async open(address: string, service: Service): Promise<string> {
    const channel = await this.channel(address, service)
    try {
      checkVerdict(await channel.next())
      return 'accepted'
    } catch (error) {
      return toMeshError(error).code
    } finally {
      channel.close('lost')
    }
  }

  /** Shows a certificate; the refusal, or 'accepted'. */
  async greet(address: string, certificate: Uint8Array): Promise<string> {
    const channel = await this.channel(address, helloProtocol)
    this.session = clientSession(helloProtocol, channel, { calls: {}, notes: { certificate() {}, revocations() {} } })
    try {
      await this.session.call('hello', { certificate, revocationsNumber: 0 })
      return 'accepted'
    } catch (error) {
      return `${toMeshError(error).code}: ${toMeshError(error).message}`
    }
  }

  /** Whether a stream of a stock protocol is answered. */
  async answers(address: string, protocol: string): Promise<boolean> {
    const stream = await this.node.dialProtocol(multiaddr(address), protocol)
    return new Promise((resolve) => {
      stream.addEventListener('message', () => resolve(true))
      stream.addEventListener('close', () => resolve(false))
      stream.addEventListener('remoteCloseWrite', () => resolve(false))
      if (stream.status === 'open') stream.send(new Uint8Array(32))
      else resolve(false)
    })
  }
}

describe('the gate', () => {
  let mesh: TestMesh
  const bares: Bare[] = []

  afterEach(async () => {
    for (const bare of bares.splice(0)) await bare.node.stop()
    await mesh.stop()
  })

  async function bare(privateKey?: PrivateKey): Promise<Bare> {
    const client = await Bare.start(privateKey ?? (await generateKeyPair('Ed25519')))
    bares.push(client)
    return client
  }

  /** A mesh whose founder serves everything and has a member that hears its gossip. */
  async function start() {
    mesh = await TestMesh.start()
    const { founder } = mesh
    const accepted: Channel[] = []
    for (const service of services) founder.host.serve(service, (channel) => accepted.push(channel))
    const member = await mesh.join()
    const heard: string[] = []
    const first = Promise.withResolvers<void>()
    const last = Promise.withResolvers<void>()
    member.host.subscribe(topic, (data) => {
      const text = new TextDecoder().decode(data)
      if (text === 'warm-up') first.resolve()
      else if (text === 'last') last.resolve()
      else heard.push(text)
    })
    founder.host.subscribe(topic, () => {})
    const address = founder.host.addresses()[0]!
    const send = (text: string) => founder.host.publish(topic, new TextEncoder().encode(text))
    const repeated = async (text: string, until: Promise<void>) => {
      const timer = setInterval(() => send(text), 50)
      await until
      clearInterval(timer)
    }
    /** 100 messages: those that the member hears while the bare clients try to hear them too. */
    const gossip = async () => {
      await repeated('warm-up', first.promise)
      for (let number = 0; number < 100; number += 1) {
        send(`message ${number}`)
        await new Promise((resolve) => setImmediate(resolve))
      }
      // A message is forwarded in order: after the last one the others have come, or never will.
      await repeated('last', last.promise)
      return new Set(heard)
    }
    return { founder, member, accepted, address, gossip }
  }

  async function expectNothing(client: Bare, address: string) {
    const verdicts = await Promise.all([...services, membershipProtocol].map((service) => client.open(address, service)))
    expect(verdicts).toEqual(['AuthenticationFailed', 'AuthenticationFailed', 'AuthenticationFailed', 'AuthenticationFailed'])
    const stock = await Promise.all(
      [...gossipProtocols, '/ipfs/ping/1.0.0', '/ipfs/id/1.0.0'].map((protocol) => client.answers(address, protocol)),
    )
    expect(stock).toEqual([false, false, false, false, false])
  }

  function expectHeardNothing(client: Bare) {
    expect(client.received).toEqual([])
    // Not even what the mesh talks about.
    expect(client.node.services.pubsub.getSubscribers(topic)).toEqual([])
  }

  it('S1, G1: a peer with no certificate is refused by every protocol and receives 0 of 100 messages', async () => {
    const { accepted, address, gossip } = await start()
    const client = await bare()
    await client.node.dial(multiaddr(address))
    const heard = gossip()
    await expectNothing(client, address)
    expect((await heard).size).toBeGreaterThanOrEqual(90)
    expectHeardNothing(client)
    expect(accepted).toEqual([])
  })

  it('S1, G1: a peer with a certificate of another mesh is refused by every protocol and receives 0 of 100 messages', async () => {
    const { accepted, address, gossip, founder } = await start()
    const client = await bare()
    const foreignRoot = await generateKeyPair('Ed25519')
    const now = Date.now()
    const all = { peer: client.peer, roles: ['worker', 'admin'] as const, now, expires: now + 60_000, serial: 1 }
    const otherMesh = await signCertificate(foreignRoot, { ...all, mesh: 'k'.repeat(meshIdBytes) })
    const sameName = await signCertificate(foreignRoot, { ...all, mesh: founder.membership.mesh })
    for (const certificate of [otherMesh, sameName]) {
      expect(await client.greet(address, certificate)).toContain(
        'AuthenticationFailed: The membership certificate was not signed by the mesh',
      )
    }
    const heard = gossip()
    await expectNothing(client, address)
    expect((await heard).size).toBeGreaterThanOrEqual(90)
    expectHeardNothing(client)
    expect(accepted).toEqual([])
  })

  it('S1, G1: a peer with an expired certificate is refused by every protocol and receives 0 of 100 messages', async () => {
    const { accepted, address, gossip, founder } = await start()
    const client = await bare()
    const { rootKey } = (await load(founder.dataDir))!.founder!
    const now = Date.now()
    const { mesh: id } = founder.membership
    const expired = await signCertificate(rootKey, {
      mesh: id,
      peer: client.peer,
      roles: ['worker'],
      now: now - 2000,
      expires: now - 1000,
      serial: 90,
    })
    expect(await client.greet(address, expired)).toContain('AuthenticationFailed: The membership certificate expired')
    const heard = gossip()
    await expectNothing(client, address)
    expect((await heard).size).toBeGreaterThanOrEqual(90)
    expectHeardNothing(client)
    expect(accepted).toEqual([])
  })

  it('S1, G1: a peer whose certificate was revoked is refused by every protocol and receives 0 of 100 messages', async () => {
    const { accepted, address, gossip, founder, member } = await start()
    const victim = await mesh.join()
    const { signedCertificate, privateKey } = victim.membership
    await victim.host.stop()
    await founder.service.revoke(victim.host.peer)
    const client = await bare(privateKeyFromProtobuf(privateKeyToProtobuf(privateKey)))
    expect(client.peer).toBe(peerIdFromPrivateKey(privateKey).toString())
    expect(await client.greet(address, signedCertificate)).toContain('AuthenticationFailed: This machine was removed from the mesh')
    // Its own word that it is no member does not make it one elsewhere either.
    expect(await client.greet(member.host.addresses()[0]!, signedCertificate)).toContain('removed from the mesh')
    const heard = gossip()
    await expectNothing(client, address)
    expect((await heard).size).toBeGreaterThanOrEqual(90)
    expectHeardNothing(client)
    expect(accepted).toEqual([])
  })

  it('S1: a certificate does not help another peer that shows it', async () => {
    const { address, member } = await start()
    const client = await bare()
    expect(await client.greet(address, member.membership.signedCertificate)).toContain('made out to another machine')
    expect(await client.open(address, services[0]!)).toBe('AuthenticationFailed')
  })

  it('S1: a peer that shows a certificate that holds is let in: the same client, so the refusals above are the gate', async () => {
    const { accepted, address, gossip, founder } = await start()
    const client = await bare()
    const { rootKey } = (await load(founder.dataDir))!.founder!
    const now = Date.now()
    const { mesh: id } = founder.membership
    const good = await signCertificate(rootKey, { mesh: id, peer: client.peer, roles: ['worker'], now, expires: now + 60_000, serial: 90 })
    expect(await client.greet(address, good)).toBe('accepted')
    expect(await client.open(address, services[0]!)).toBe('accepted')
    expect(await client.open(address, services[1]!)).toBe('accepted')
    expect(await client.open(address, services[2]!)).toBe('InsufficientPermissions')
    expect(await client.open(address, membershipProtocol)).toBe('InsufficientPermissions')
    expect(accepted.map((channel) => channel.remote)).toEqual([
      { peer: client.peer, roles: ['worker'] },
      { peer: client.peer, roles: ['worker'] },
    ])
    expect(await client.answers(address, '/ipfs/ping/1.0.0')).toBe(true)
    await gossip()
    expect(client.received.length).toBeGreaterThan(0)
    expect(client.node.services.pubsub.getSubscribers(topic).map(String)).toContain(founder.host.peer)
  })

  it('S1: a member whose certificate expires while it is connected is parted with', async () => {
    const { accepted, address, founder } = await start()
    const client = await bare()
    const { rootKey } = (await load(founder.dataDir))!.founder!
    const now = Date.now()
    const { mesh: id } = founder.membership
    const short = await signCertificate(rootKey, { mesh: id, peer: client.peer, roles: ['worker'], now, expires: now + 1500, serial: 90 })
    expect(await client.greet(address, short)).toBe('accepted')
    const channel = await client.channel(address, services[0]!)
    checkVerdict(await channel.next())
    expect(await channel.closed).toBe('lost')
    expect(['remote', 'lost']).toContain(await accepted[0]!.closed)
    expect(Date.now()).toBeGreaterThanOrEqual(now + 1500)
    expect(founder.host.connected()).not.toContain(client.peer)
  })

  it('S1: a revocation closes the channels of the peer at every member, also at those that only heard of it', async () => {
    const { founder, member } = await start()
    const victim = await mesh.join()
    member.host.serve(services[0]!, () => {})
    victim.host.learn(member.host.peer, member.host.addresses())
    const atFounder = await victim.host.open(founder.host.peer, services[0]!)
    const atMember = await victim.host.open(member.host.peer, services[0]!)
    await connection(member.host, founder.host.peer)
    await founder.service.revoke(victim.host.peer)
    expect(await atFounder.closed).toBe('lost')
    expect(await atMember.closed).toBe('lost')
    await expect(victim.host.open(member.host.peer, services[0]!)).rejects.toMatchObject({ code: 'AuthenticationFailed' })
    expect(member.membership.revocationsNumber).toBe(1)
  })

  it('S1: a member that was away hears of a revocation when it greets again', async () => {
    const { founder, member } = await start()
    await member.host.stop()
    const victim = await mesh.join()
    await founder.service.revoke(victim.host.peer)
    expect(member.membership.revocationsNumber).toBe(0)
    const back = await mesh.open(member.dataDir, member.membership)
    const heard = Promise.withResolvers<void>()
    member.membership.onChange((change) => change === 'revocations' && heard.resolve())
    await Promise.all([connection(back.host, founder.host.peer), heard.promise])
    expect(member.membership.isRevoked(victim.host.peer)).toBe(true)
  })

  it('S1: a stranger can open nothing but the greeting and the enrolment', async () => {
    const { address } = await start()
    const client = await bare()
    expect(await client.open(address, enrolProtocol)).toBe('accepted')
    expect(await client.greet(address, new Uint8Array([1, 2, 3]))).toContain('AuthenticationFailed')
  })
})
