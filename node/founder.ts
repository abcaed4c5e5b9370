/** The founder's part of membership: invites, admits, renews and revokes. Each answer follows a durable registry. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import type { PrivateKey } from '@libp2p/interface'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import { type Invite, inviteSchema, type Member, type Revocations } from '../protocols/membership.ts'
import { firstIssue } from '../protocols/rpc.ts'
import { encodeToken, secretBytes, tokenAddresses } from '../protocols/token.ts'
import type { Role } from '../protocols/wire.ts'
import { saveRegistry, signCertificate, signRevocations } from './identity.ts'
import { admit, mergeRevocations, type Registry, renew, revocations, revoke, withInvitation } from './registry.ts'

/** Wrong secrets that one peer may show within a minute. A secret has 128 bits: this spares work, it does not guard it. */
const wrongSecretsPerMinute = 5

/** Who asks again so soon is given the same certificate: each other one costs a write of the registry. A hundredth of its life, if that is less. */
const sameAnswerMs = 60_000

/** Peers remembered for their wrong secrets; the oldest is forgotten. */
const maxSuspects = 1000

export interface FounderOptions {
  dir: string
  mesh: string
  peer: string
  rootKey: PrivateKey
  registry: Registry
  lifeMs: number
  now: () => number
}

export class Founder {
  readonly #options: FounderOptions
  #registry: Registry
  #turn: Promise<unknown> = Promise.resolve()
  readonly #suspects = new Map<string, { since: number; wrong: number }>()
  /** The newest certificate of each peer, in the order in which they were given; only of the last minute. */
  readonly #recent = new Map<string, { time: number; certificate: Uint8Array; secretHash: Uint8Array | undefined }>()

  constructor(options: FounderOptions) {
    this.#options = options
    this.#registry = options.registry
  }

  /** A token for machines to come. `addresses`: where this machine can be dialled. Throws InvalidPropertyValue. */
  async invite(invite: Invite, addresses: readonly string[]): Promise<{ token: string; expires: number }> {
    const checked = inviteSchema.safeParse(invite)
    if (!checked.success) throw new MeshError('InvalidPropertyValue', firstIssue(checked.error))
    const secret = Uint8Array.from(randomBytes(secretBytes))
    const { mesh, peer, now } = this.#options
    const at = now()
    await this.#update((registry) => [withInvitation(registry, checked.data, hashOf(secret), at), undefined])
    const expires = at + checked.data.expiresMs
    return { token: encodeToken({ mesh, founder: peer, addresses: tokenAddresses(addresses), secret, expires }), expires }
  }

  /** The signed certificate of a newcomer that shows this secret. Throws AuthenticationFailed, or ServerBusy after too many wrong ones. */
  async admit(peer: string, secret: Uint8Array, name: string): Promise<Uint8Array> {
    const now = this.#options.now()
    const suspect = this.#suspects.get(peer)
    if (suspect !== undefined && now - suspect.since < 60_000 && suspect.wrong >= wrongSecretsPerMinute) {
      throw new MeshError('ServerBusy', 'Too many wrong invitations from this machine; try again in a minute.')
    }
    const secretHash = hashOf(secret)
    const same = this.#recentOf(peer)
    if (same?.secretHash !== undefined && sameHash(same.secretHash, secretHash)) return same.certificate
    try {
      const newcomer = { peer, name, secretHash, now, lifeMs: this.#options.lifeMs }
      const granted = await this.#update((registry) => {
        const admitted = admit(registry, newcomer, sameHash)
        return [admitted.registry, admitted]
      })
      this.#suspects.delete(peer)
      return await this.#sign(peer, now, granted, secretHash)
    } catch (error) {
      if (error instanceof MeshError && error.code === 'AuthenticationFailed') this.#suspect(peer, now)
      throw error
    }
  }

  /** A new certificate for a member, or the same again if it is of this minute. Throws AuthenticationFailed. */
  async renew(peer: string): Promise<Uint8Array> {
    const same = this.#recentOf(peer)
    if (same !== undefined) return same.certificate
    const now = this.#options.now()
    const granted = await this.#update((registry) => {
      const renewed = renew(registry, peer, now, this.#options.lifeMs)
      return [renewed.registry, renewed]
    })
    return this.#sign(peer, now, granted)
  }

  /** Revokes a member, for ever; the answer is the new signed list. Throws MachineNotFound or InvalidPropertyValue. */
  async revoke(peer: string): Promise<Uint8Array> {
    await this.#update((current) => [revoke(current, peer), undefined])
    return this.revocations()
  }

  /** Makes a list its own that it signed and does not remember (it was restored from an older backup). Answers the list that is newer than both, or undefined. */
  async remember(list: Pick<Revocations, 'number' | 'revoked'>): Promise<Uint8Array | undefined> {
    const isNew = await this.#update((current) => {
      const merged = mergeRevocations(current, list)
      return [merged ?? current, merged !== undefined]
    })
    return isNew ? this.revocations() : undefined
  }

  /** Number of the list that the registry asks for; one that was published may be older, if the machine crashed in between. */
  get revocationsNumber(): number {
    return this.#registry.revocationsNumber
  }

  /** The signed list of those revoked. */
  revocations(): Promise<Uint8Array> {
    return signRevocations(this.#options.rootKey, revocations(this.#registry, this.#options.mesh, this.#options.now()))
  }

  members(): Member[] {
    return Object.entries(this.#registry.members).map(([peer, { name, roles, since, expires, revoked }]) => {
      return { peer, name, roles, since, expires, revoked }
    })
  }

  async #sign(
    peer: string,
    now: number,
    granted: { roles: readonly Role[]; serial: number; expires: number },
    secretHash?: Uint8Array,
  ): Promise<Uint8Array> {
    const { mesh, rootKey } = this.#options
    const { roles, serial, expires } = granted
    const certificate = await signCertificate(rootKey, { mesh, peer, now, roles, serial, expires })
    this.#recent.delete(peer)
    this.#recent.set(peer, { time: now, certificate, secretHash })
    return certificate
  }

  /** What is given again to a member that asks again within a minute; a clock that was set has no such minute. */
  #recentOf(peer: string) {
    const now = this.#options.now()
    for (const [old, { time }] of this.#recent) {
      if (now >= time && now - time < Math.min(sameAnswerMs, this.#options.lifeMs / 100)) break
      this.#recent.delete(old)
    }
    return this.#registry.members[peer]?.revoked === false ? this.#recent.get(peer) : undefined
  }

  /** One change after the other; what it returns is handed on only when the registry is on the disk. */
  #update<T>(change: (registry: Registry) => [Registry, T]): Promise<T> {
    const done = this.#turn.then(async () => {
      const [next, result] = change(this.#registry)
      await saveRegistry(this.#options.dir, next)
      failpoint('registry.change.saved')
      this.#registry = next
      return result
    })
    this.#turn = done.catch(() => {})
    return done
  }

  #suspect(peer: string, now: number): void {
    const known = this.#suspects.get(peer)
    this.#suspects.delete(peer)
    this.#suspects.set(
      peer,
      known !== undefined && now - known.since < 60_000 ? { ...known, wrong: known.wrong + 1 } : { since: now, wrong: 1 },
    )
    if (this.#suspects.size > maxSuspects) this.#suspects.delete(this.#suspects.keys().next().value!)
  }
}

function hashOf(secret: Uint8Array): Uint8Array {
  return Uint8Array.from(createHash('sha256').update(secret).digest())
}

function sameHash(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
