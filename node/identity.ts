/**
 * The machine's identity on disk, under `<data>/identity` (0700, files 0600): its own key, its membership, and on the
 * founder the mesh's root key and registry. Private keys never leave this directory. A damaged file is an error that
 * names it, never a reason for a new identity.
 */
import { createHash } from 'node:crypto'
import { chmod, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  generateKeyPair,
  privateKeyFromProtobuf,
  privateKeyToProtobuf,
  publicKeyFromProtobuf,
  publicKeyToProtobuf,
} from '@libp2p/crypto/keys'
import type { PrivateKey, PublicKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { base36 } from 'multiformats/bases/base36'
import { z } from 'zod'
import { bytesSchema } from '../protocols/bytes.ts'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import {
  bytesToSign,
  certificateLifeMs,
  encodeCertificate,
  encodeRevocations,
  encodeSigned,
  founderRoles,
  type Revocations,
  type SignedKind,
} from '../protocols/membership.ts'
import type { Role } from '../protocols/wire.ts'
import { emptyRegistry, enter, type Registry, registrySchema, revocations } from './registry.ts'
import { readSealed, writeSealed } from './sealed-file.ts'

const keyFile = { name: 'key', kind: 'batchmesh/machine-key/1' }
const rootKeyFile = { name: 'root-key', kind: 'batchmesh/root-key/1' }
const membershipFile = { name: 'membership', kind: 'batchmesh/membership/1' }
const revocationsFile = { name: 'revocations', kind: 'batchmesh/revocations/1' }
/** There while a mesh is being founded: keys beside it that belong to no mesh are not yet anybody's. */
const foundingFile = { name: 'founding', kind: 'batchmesh/founding/1' }
const registryFile = { name: 'registry', kind: 'batchmesh/registry/1' }

const membershipSchema = z.object({
  mesh: z.string(),
  rootPublicKey: bytesSchema,
  founder: z.string(),
  founderAddresses: z.array(z.string()),
  /** Signed. */
  certificate: bytesSchema,
})

/** What a machine knows of its membership. */
export type MembershipRecord = z.infer<typeof membershipSchema>

export interface MachineKey {
  readonly privateKey: PrivateKey
  readonly peer: PeerIdText
}

export interface Identity extends MachineKey {
  readonly dir: string
  readonly record: MembershipRecord
  readonly rootPublicKey: PublicKey
  /** The signed revocation list; undefined before the first. */
  readonly revocations: Uint8Array | undefined
  /** On the founder only. */
  readonly founder: { rootKey: PrivateKey; registry: Registry } | undefined
}

/** The name of a mesh: base36 of the SHA-256 of its root public key (libp2p protobuf form). */
export function meshIdOf(rootPublicKey: Uint8Array): string {
  return base36.encode(createHash('sha256').update(rootPublicKey).digest())
}

/** A public key in libp2p's protobuf form. Throws for bytes that are none. */
export function publicKeyOf(bytes: Uint8Array): PublicKey {
  return publicKeyFromProtobuf(bytes)
}

export function identityDir(dataDir: string): string {
  return join(dataDir, 'identity')
}

/** Undefined when this data directory belongs to no mesh yet. Throws InternalError for a damaged file. */
export async function load(dataDir: string): Promise<Identity | undefined> {
  const dir = identityDir(dataDir)
  const record = await readSealed(join(dir, membershipFile.name), membershipFile.kind, membershipSchema)
  if (record === undefined) return undefined
  await chmod(dir, 0o700)
  const key = await readKey(dir, keyFile)
  if (key === undefined) throw missing(dir, keyFile.name)
  const revoked = await readSealed(join(dir, revocationsFile.name), revocationsFile.kind, bytesSchema)
  const rootKey = await readKey(dir, rootKeyFile)
  const registry = await readSealed(join(dir, registryFile.name), registryFile.kind, registrySchema)
  const peer = peerIdFromPrivateKey(key).toString()
  if (record.founder === peer && rootKey === undefined) throw missing(dir, rootKeyFile.name)
  if (rootKey !== undefined && registry === undefined) throw missing(dir, registryFile.name)
  return {
    dir,
    privateKey: key,
    peer,
    record,
    rootPublicKey: publicKeyOf(record.rootPublicKey),
    revocations: revoked,
    founder: rootKey === undefined ? undefined : { rootKey, registry: registry! },
  }
}

/** Founds a mesh with this machine as its founder. Throws InvalidPropertyValue when the data directory belongs to a mesh already. */
export async function found(dataDir: string, options: { name?: string; now?: () => number; lifeMs?: number } = {}): Promise<Identity> {
  if ((await load(dataDir)) !== undefined) {
    throw new MeshError(
      'InvalidPropertyValue',
      `The data directory ${dataDir} belongs to a mesh already. Leave it first, or choose another directory.`,
    )
  }
  const now = (options.now ?? Date.now)()
  const { peer } = await machineKey(dataDir)
  const dir = identityDir(dataDir)
  const brokeOff = (await readSealed(join(dir, foundingFile.name), foundingFile.kind, z.boolean())) === true
  if (!brokeOff && (await readKey(dir, rootKeyFile)) !== undefined) throw missing(dir, membershipFile.name)
  await writeSealed(join(dir, foundingFile.name), foundingFile.kind, true)
  const rootKey = await generateKeyPair('Ed25519')
  const rootPublicKey = publicKeyToProtobuf(rootKey.publicKey)
  const mesh = meshIdOf(rootPublicKey)
  const entered = enter(emptyRegistry, peer, options.name ?? '', founderRoles, now, options.lifeMs ?? certificateLifeMs)
  const certificate = await signCertificate(rootKey, { mesh, peer, now, ...entered })
  await writeSealed(join(dir, rootKeyFile.name), rootKeyFile.kind, privateKeyToProtobuf(rootKey))
  failpoint('founding.root.saved')
  await saveRegistry(dir, entered.registry)
  await saveRevocations(dir, await signRevocations(rootKey, revocations(entered.registry, mesh, now)))
  failpoint('founding.registry.saved')
  // Last: only with this file the directory belongs to a mesh.
  await saveMembership(dir, { mesh, rootPublicKey, founder: peer, founderAddresses: [], certificate })
  await rm(join(dir, foundingFile.name))
  return (await load(dataDir))!
}

/** This machine's key; made at the first call and never changed. */
export async function machineKey(dataDir: string): Promise<MachineKey> {
  const dir = identityDir(dataDir)
  // Its own directory is private; those above, where they are made here too, must let task users through.
  await mkdir(dataDir, { recursive: true, mode: 0o711 })
  await mkdir(dir, { recursive: true, mode: 0o700 })
  await chmod(dir, 0o700)
  let privateKey = await readKey(dir, keyFile)
  if (privateKey === undefined) {
    privateKey = await generateKeyPair('Ed25519')
    await writeSealed(join(dir, keyFile.name), keyFile.kind, privateKeyToProtobuf(privateKey))
  }
  return { privateKey, peer: peerIdFromPrivateKey(privateKey).toString() }
}

/** Removes what writes that broke off have left. Only while no other process uses the directory. */
export async function sweepIdentity(dataDir: string): Promise<void> {
  const dir = identityDir(dataDir)
  for (const name of await readdir(dir).catch((): string[] => [])) if (name.endsWith('.tmp')) await rm(join(dir, name), { force: true })
}

/** Whether this machine has made its key. */
export async function hasKey(dataDir: string): Promise<boolean> {
  return (await readKey(identityDir(dataDir), keyFile)) !== undefined
}

/** Forgets the membership and the keys: the machine comes back as another one. */
export async function forget(dataDir: string): Promise<void> {
  await rm(identityDir(dataDir), { recursive: true, force: true })
}

/** The files that make a founder's identity, for a backup: what `load` reads. */
export const identityFiles: readonly string[] = [keyFile, rootKeyFile, membershipFile, revocationsFile, registryFile].map(
  ({ name }) => name,
)

export function saveMembership(dir: string, record: MembershipRecord): Promise<void> {
  return writeSealed(join(dir, membershipFile.name), membershipFile.kind, record)
}

export function saveRevocations(dir: string, signed: Uint8Array): Promise<void> {
  return writeSealed(join(dir, revocationsFile.name), revocationsFile.kind, signed)
}

export function saveRegistry(dir: string, registry: Registry): Promise<void> {
  return writeSealed(join(dir, registryFile.name), registryFile.kind, registry)
}

export function signCertificate(
  rootKey: PrivateKey,
  certificate: { mesh: string; peer: string; roles: readonly Role[]; now: number; expires: number; serial: number },
): Promise<Uint8Array> {
  const { mesh, peer, roles, now, expires, serial } = certificate
  return sign(rootKey, 'certificate', encodeCertificate({ mesh, peer, roles: [...roles], issuedAt: now, expires, serial }))
}

export function signRevocations(rootKey: PrivateKey, list: Revocations): Promise<Uint8Array> {
  return sign(rootKey, 'revocations', encodeRevocations(list))
}

async function sign(rootKey: PrivateKey, kind: SignedKind, payload: Uint8Array): Promise<Uint8Array> {
  return encodeSigned({ payload, signature: await rootKey.sign(bytesToSign(kind, payload)) })
}

async function readKey(dir: string, file: { name: string; kind: string }): Promise<PrivateKey | undefined> {
  const path = join(dir, file.name)
  const stored = await readSealed(path, file.kind, bytesSchema)
  return stored === undefined ? undefined : privateKeyFromProtobuf(stored)
}

function missing(dir: string, name: string): MeshError {
  return new MeshError(
    'InternalError',
    `The file ${name} is missing from ${dir}. Restore it from a backup, or remove the directory and join the mesh anew.`,
  )
}
