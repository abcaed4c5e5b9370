/**
 * This machine's membership while it runs: its own certificate, the revocation list, and the judgement of others.
 * See protocols/membership.ts for the whole conversation.
 */
import type { PrivateKey, PublicKey } from '@libp2p/interface'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import {
  bytesToSign,
  type Certificate,
  certificateLifeMs,
  certificateTrouble,
  decodeCertificate,
  decodeRevocations,
  decodeSigned,
  type Revocations,
  type SignedKind,
} from '../protocols/membership.ts'
import { Founder } from './founder.ts'
import { type Identity, type MembershipRecord, saveMembership, saveRevocations } from './identity.ts'

/** `expired`: a member says that this machine's certificate has expired, by its clock. */
export type MembershipChange = 'certificate' | 'revocations' | 'expired'

export interface MembershipOptions {
  /** Ms since 1970. */
  now?: () => number
  /** Life of the certificates that this founder gives. */
  lifeMs?: number
}

export class Membership {
  readonly peer: PeerIdText
  readonly mesh: string
  readonly privateKey: PrivateKey
  /** Only where this machine is the founder. */
  readonly founder: Founder | undefined
  readonly now: () => number
  readonly #dir: string
  readonly #rootPublicKey: PublicKey
  readonly #listeners = new Set<(change: MembershipChange) => void>()
  #record: MembershipRecord
  #certificate: Certificate
  #list: Revocations | undefined
  #signedList: Uint8Array | undefined
  #revoked: ReadonlySet<string> = new Set()

  private constructor(identity: Identity, certificate: Certificate, options: MembershipOptions) {
    this.now = options.now ?? Date.now
    this.peer = identity.peer
    this.mesh = identity.record.mesh
    this.privateKey = identity.privateKey
    this.#dir = identity.dir
    this.#rootPublicKey = identity.rootPublicKey
    this.#record = identity.record
    this.#certificate = certificate
    if (identity.founder !== undefined) {
      const { dir, peer, founder } = identity
      this.founder = new Founder({ dir, peer, mesh: this.mesh, ...founder, lifeMs: options.lifeMs ?? certificateLifeMs, now: this.now })
    }
  }

  /** Throws InternalError when the identity holds a certificate or list that its root key did not sign. */
  static async open(identity: Identity, options: MembershipOptions = {}): Promise<Membership> {
    const payload = await verified(identity.rootPublicKey, 'certificate', identity.record.certificate)
    const certificate = payload && decodeCertificate(payload)
    if (certificate === undefined) {
      throw new MeshError(
        'InternalError',
        `The membership certificate in ${identity.dir} is not valid. Restore it from a backup, or join the mesh anew.`,
      )
    }
    const membership = new Membership(identity, certificate, options)
    if (identity.revocations !== undefined) await membership.#readList(identity.revocations)
    const { founder } = membership
    if (founder !== undefined && founder.revocationsNumber > membership.revocationsNumber)
      await membership.takeRevocations(await founder.revocations())
    return membership
  }

  get certificate(): Certificate {
    return this.#certificate
  }

  /** As it is shown to others. */
  get signedCertificate(): Uint8Array {
    return this.#record.certificate
  }

  /** In its libp2p protobuf form. */
  get rootPublicKeyBytes(): Uint8Array {
    return this.#record.rootPublicKey
  }

  get founderPeer(): PeerIdText {
    return this.#record.founder
  }

  /** Where the founder could be dialled when this machine joined. */
  get founderAddresses(): readonly string[] {
    return this.#record.founderAddresses
  }

  /** 0 before the first list. */
  get revocationsNumber(): number {
    return this.#list?.number ?? 0
  }

  get signedRevocations(): Uint8Array | undefined {
    return this.#signedList
  }

  isRevoked(peer: PeerIdText): boolean {
    return this.#revoked.has(peer)
  }

  revokedPeers(): PeerIdText[] {
    return [...this.#revoked]
  }

  /** The certificate that a peer showed. Throws AuthenticationFailed with what is wrong with it. */
  async judge(shown: Uint8Array, peer: PeerIdText): Promise<Certificate> {
    const payload = await verified(this.#rootPublicKey, 'certificate', shown)
    const certificate = payload && decodeCertificate(payload)
    if (certificate === undefined) {
      throw new MeshError('AuthenticationFailed', `The membership certificate was not signed by the mesh ${this.mesh}.`)
    }
    const trouble = this.trouble(certificate, peer)
    if (trouble !== undefined) throw new MeshError('AuthenticationFailed', trouble)
    return certificate
  }

  /** Why this certificate, whose signature was checked before, does not admit the peer now; undefined when it does. */
  trouble(certificate: Certificate, peer: PeerIdText): string | undefined {
    return certificateTrouble(certificate, { mesh: this.mesh, peer, now: this.now(), revoked: this.#revoked })
  }

  /** Takes in a list if it is genuine and newer; true when it was. */
  async takeRevocations(signed: Uint8Array): Promise<boolean> {
    if (!(await this.#readList(signed))) return false
    // Only a restored founder hears of a list that is newer than its registry: it must not take back who is on it.
    const own = await this.founder?.remember(this.#list!)
    if (own !== undefined) await this.#readList(own)
    await saveRevocations(this.#dir, own ?? signed)
    failpoint('membership.revocations.saved')
    this.#tell('revocations')
    return true
  }

  /** A member refused this machine's certificate, or would: by its clock it has expired. */
  heardExpired(): void {
    this.#tell('expired')
  }

  /** Takes a renewed certificate of this machine, durably. Throws AuthenticationFailed for one that is not valid here. */
  async adopt(signed: Uint8Array): Promise<void> {
    const certificate = await this.judge(signed, this.peer)
    if (certificate.serial <= this.#certificate.serial) return
    const record = { ...this.#record, certificate: signed }
    await saveMembership(this.#dir, record)
    failpoint('membership.certificate.saved')
    this.#record = record
    this.#certificate = certificate
    this.#tell('certificate')
  }

  onChange(listener: (change: MembershipChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async #readList(signed: Uint8Array): Promise<boolean> {
    const payload = await verified(this.#rootPublicKey, 'revocations', signed)
    const list = payload && decodeRevocations(payload)
    if (list === undefined || list.mesh !== this.mesh) return false
    if (this.#list !== undefined && list.number <= this.#list.number) return false
    this.#list = list
    this.#signedList = signed
    this.#revoked = new Set(list.revoked.map((entry) => entry.peer))
    return true
  }

  #tell(change: MembershipChange): void {
    for (const listener of this.#listeners) listener(change)
  }
}

/** The payload when the root key has signed it. */
export async function verified(rootPublicKey: PublicKey, kind: SignedKind, bytes: Uint8Array): Promise<Uint8Array | undefined> {
  const signed = decodeSigned(bytes)
  if (signed === undefined) return undefined
  const genuine = await rootPublicKey.verify(bytesToSign(kind, signed.payload), signed.signature)
  return genuine ? signed.payload : undefined
}
