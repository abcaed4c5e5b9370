/** The part of the fake mesh that is the node of this machine: its state and its blob store. */
import { createHash } from 'node:crypto'
import { MeshError } from '../../protocols/errors.ts'
import { type LocalStatus, localProtocol } from '../../protocols/local.ts'
import { type CallHandlers, serverSession } from '../../protocols/rpc.ts'
import type { Channel } from '../../protocols/wire.ts'
import { version } from '../../src/version.ts'

type LocalCalls = CallHandlers<(typeof localProtocol)['server']>

/** The blob store behind it. */
export interface FakeBlobs {
  readonly status: LocalStatus
  readonly blobs: Map<string, Buffer>
  readonly trees: Map<string, { path: string; id: string; size: number }[]>
  readonly openUploads: Map<number, Buffer[]>
  addBlob(data: Buffer): string
  note(name: string, request: unknown): Promise<void>
}

export const laptop: LocalStatus = {
  peer: '12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake',
  name: 'laptop',
  meshId: 'mesh-1',
  version,
  // No process has it.
  pid: 2 ** 30,
  startTime: 0,
  roles: ['worker', 'submitter', 'admin'],
  isCoordinator: false,
  connected: true,
  addresses: [],
  lends: { cores: 4, memoryMiB: 8192, gpus: 0 },
  class: 'dedicated',
  labels: { room: 'lab' },
  isolation: 'bwrap',
  runningTasks: 0,
  heartbeatLagMs: 0,
  dataDir: '/data',
  certificateExpires: 0,
  user: 'batchmesh',
}

export function localCalls(mesh: FakeBlobs, channel: Channel): void {
  let handles = 0
  const naming = new Map<number, { path: string; id: string; size: number }[]>()
  const stat = (id: string) => {
    const tree = mesh.trees.get(id)
    const size = tree?.reduce((sum, entry) => sum + entry.size, 0) ?? mesh.blobs.get(id)?.length
    if (size === undefined) throw new MeshError('BlobNotFound', `No reachable machine has the blob ${id}.`)
    return { id, kind: tree === undefined ? ('file' as const) : ('directory' as const), size, pins: [], complete: true }
  }
  const calls: Partial<LocalCalls> = {
    status: () => mesh.status,
    down: () => ({}),
    invite: ({ roles, uses }) => ({ token: `token-${roles.join('-')}-${uses}`, expires: 0 }),
    putBegin: () => {
      handles += 1
      mesh.openUploads.set(handles, [])
      return { handle: handles }
    },
    putPiece: ({ handle, data }) => {
      mesh.openUploads.get(handle)!.push(Buffer.from(data))
      return {}
    },
    putEnd: ({ handle }) => {
      const data = Buffer.concat(mesh.openUploads.get(handle)!)
      mesh.openUploads.delete(handle)
      return { id: mesh.addBlob(data), size: data.length }
    },
    putAbort: ({ handle }) => {
      mesh.openUploads.delete(handle)
      return {}
    },
    putSmall: ({ files }) => ({ ids: files.map((content) => mesh.addBlob(Buffer.from(content))) }),
    treeBegin: () => {
      handles += 1
      naming.set(handles, [])
      return { handle: handles }
    },
    treeAdd: ({ handle, entries }) => {
      naming.get(handle)!.push(...entries)
      return {}
    },
    treeEnd: ({ handle }) => {
      const entries = naming.get(handle)!
      const id = blobIdOf(JSON.stringify(entries))
      mesh.trees.set(id, entries)
      return { id, size: entries.reduce((sum, { size }) => sum + size, 0) }
    },
    fetch: ({ id }) => stat(id),
    blobStat: ({ id }) => stat(id),
    entries: ({ id }) => ({ entries: mesh.trees.get(id) ?? [{ path: '', id, size: stat(id).size }] }),
    read: ({ id, offset, length }) => ({ data: Uint8Array.from(mesh.blobs.get(id)!.subarray(offset, offset + length)) }),
    readSmall: ({ ids }) => ({ files: ids.map((id) => Uint8Array.from(mesh.blobs.get(stat(id).id)!)) }),
    blobList: () => ({ items: [...mesh.blobs.keys()].map(stat) }),
    gc: () => ({ removed: 0, freedBytes: 0, usedBytes: 0 }),
  }
  const handlers = Object.fromEntries(
    Object.keys(localProtocol.server.calls).map((name) => [
      name,
      async (request: unknown, context: unknown) => {
        await mesh.note(name, request)
        const handler = calls[name as keyof LocalCalls] as ((request: unknown, context: unknown) => unknown) | undefined
        if (handler === undefined) throw new MeshError('UnsupportedVersion')
        return handler(request, context)
      },
    ]),
  ) as unknown as LocalCalls
  serverSession(localProtocol, channel, { calls: handlers, notes: {} })
}

/** Has the shape of a blob id, and equal content has equal ids. */
export function blobIdOf(data: Uint8Array | string): string {
  return `bafy${createHash('sha256')
    .update(data)
    .digest('hex')
    .replaceAll(/[0189]/g, (digit) => 'wxyz'['0189'.indexOf(digit)]!)}`
}
