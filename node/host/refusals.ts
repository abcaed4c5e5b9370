/** What the host says when something is wrong. */
import { multiaddr } from '@multiformats/multiaddr'
import { MeshError } from '../../protocols/errors.ts'
import type { Service } from '../../protocols/wire.ts'

/** Throws InvalidPropertyValue for what is no multiaddr. */
export function checkAddress(address: string): void {
  try {
    multiaddr(address)
  } catch (error) {
    throw new MeshError(
      'InvalidPropertyValue',
      `${JSON.stringify(address)} is not a multiaddr such as /ip4/192.168.1.10/tcp/4001: ${reasonOf(error)}`,
    )
  }
}

export function forbidden(service: Service): MeshError {
  const needed = service.requires === 'anyone' ? '' : service.requires.join(' or ')
  return new MeshError(
    'InsufficientPermissions',
    `${service.protocol} needs the role ${needed}, which this machine's membership certificate does not give.`,
  )
}

export function unserved(protocol: string): MeshError {
  return new MeshError(
    'UnsupportedVersion',
    `The machine does not serve ${protocol}: it has another task, or another version of batchmesh.`,
  )
}

export function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return [...new Set(error.errors.map(reasonOf))].join('; ')
  return error instanceof Error ? error.message || error.name : String(error)
}
