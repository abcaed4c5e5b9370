/** A founder's identity from a backup: checked whole, and made safe against what happened after it. */
import { publicKeyToProtobuf } from '@libp2p/crypto/keys'
import { MeshError } from '../protocols/errors.ts'
import { type Identity, load, meshIdOf, saveRegistry } from './identity.ts'
import { restoredRegistry } from './registry.ts'

/** The founder's identity in this data directory. Throws InvalidPropertyValue where there is none, or it is a member's; InternalError when its parts do not belong together. */
export async function founderIdentity(dataDir: string): Promise<Identity & { founder: NonNullable<Identity['founder']> }> {
  const identity = await load(dataDir)
  if (identity === undefined) throw new MeshError('InvalidPropertyValue', `The data directory ${dataDir} belongs to no mesh.`)
  const { founder, record } = identity
  if (founder === undefined || record.founder !== identity.peer) {
    throw new MeshError(
      'InvalidPropertyValue',
      'This machine did not found its mesh: the root key and the jobs are on the founder. Run the command there; other machines need no backup.',
    )
  }
  const rootPublicKey = publicKeyToProtobuf(founder.rootKey.publicKey)
  if (meshIdOf(rootPublicKey) !== record.mesh || meshIdOf(record.rootPublicKey) !== record.mesh)
    throw new MeshError('InternalError', `The root key in ${identity.dir} is not that of the mesh ${record.mesh}.`)
  return { ...identity, founder }
}

/** Makes an identity that was put back from a backup ready for use: see {@link restoredRegistry}. */
export async function renewFounder(dataDir: string): Promise<{ mesh: string; peer: string; members: number }> {
  const { dir, peer, record, founder } = await founderIdentity(dataDir)
  const registry = restoredRegistry(founder.registry)
  await saveRegistry(dir, registry)
  return { mesh: record.mesh, peer, members: Object.values(registry.members).filter(({ revoked }) => !revoked).length }
}
