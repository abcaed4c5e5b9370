/** Membership for a node that somebody else starts: a service. */
import { refuseSecondNode } from '../../node/control-socket.ts'
import { enrol } from '../../node/enrol.ts'
import { found, load } from '../../node/identity.ts'
import { controlSocketPath } from '../config.ts'

export interface MemberOptions {
  dataDir: string
  /** An invitation token. Absent: the membership that is there, else a mesh is founded. */
  join: string | undefined
  name: string
  /** Multiaddrs to look for the founder at, besides those in the token. */
  bootstrap: readonly string[]
  mdns: boolean
}

/** Makes the data directory that of a member, as the first `up` would. Rejects as it would, and where a node runs. */
export async function becomeMember(options: MemberOptions): Promise<{ how: 'founded' | 'joined' | 'resumed'; mesh: string }> {
  const { dataDir, join, name, bootstrap, mdns } = options
  await refuseSecondNode(controlSocketPath(dataDir))
  if (join !== undefined) {
    const identity = await enrol(dataDir, join, { name, addresses: bootstrap, mdns })
    return { how: 'joined', mesh: identity.record.mesh }
  }
  const known = await load(dataDir)
  if (known !== undefined) return { how: 'resumed', mesh: known.record.mesh }
  return { how: 'founded', mesh: (await found(dataDir, { name })).record.mesh }
}
