/** A backup of a mesh: its founder's identity with the root key, the coordinator's rows as they stand at one moment, and the founder's settings. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { allRows } from '../../coordinator/restored.ts'
import { openLevelStore } from '../../coordinator/store.ts'
import { identityDir, identityFiles } from '../../node/identity.ts'
import { layoutOf } from '../../node/layout.ts'
import { founderIdentity } from '../../node/restored-identity.ts'
import { MeshError } from '../../protocols/errors.ts'
import { maxExportBytes, maxExportRows } from '../../protocols/local.ts'
import { version } from '../version.ts'
import { type BackupRow, BackupWriter } from './backup-file.ts'
import type { Mesh } from './client.ts'
import { settingsFile } from './settings.ts'

export interface BackupOptions {
  dataDir: string
  /** Where to write it. */
  file: string
  /** The node of `dataDir` where it runs; absent: it is stopped, and its database is opened here. */
  mesh: Mesh | undefined
  /** Encrypts the file. */
  passphrase?: string
  /** A file that is there already is replaced. */
  replace?: boolean
}

export interface BackedUp {
  mesh: string
  files: number
  rows: number
  jobs: number
  bytes: number
  running: boolean
}

/** Writes a backup; the file is in its place, whole, when this resolves. Rejects with InvalidPropertyValue where this machine is no founder or the file is there. */
export async function backUp(options: BackupOptions): Promise<BackedUp> {
  const { dataDir, file, mesh, passphrase, replace } = options
  const identity = await founderIdentity(dataDir)
  const name = identity.founder.registry.members[identity.peer]?.name ?? ''
  const head = { mesh: identity.record.mesh, founder: identity.peer, name, time: Date.now(), version }
  const writer = await BackupWriter.create(file, head, { passphrase, replace })
  let jobs = 0
  try {
    const pages = mesh === undefined ? readStopped(dataDir) : readRunning(mesh)
    for await (const rows of pages) {
      jobs += rows.filter(([key]) => key.startsWith('job/')).length
      if (rows.length > 0) await writer.add(['rows', rows])
    }
    // After the rows: a machine that came meanwhile is known to both or to the identity alone, and joins again at the worst.
    for (const part of identityFiles) await addFile(writer, part, join(identityDir(dataDir), part))
    await addFile(writer, settingsFile, join(dataDir, settingsFile))
    return { ...(await writer.finish()), mesh: head.mesh, jobs, running: mesh !== undefined }
  } catch (error) {
    await writer.abort()
    throw error
  }
}

async function addFile(writer: BackupWriter, name: string, path: string): Promise<void> {
  let bytes: Uint8Array
  try {
    bytes = new Uint8Array(await readFile(path))
  } catch (error) {
    // No list before the first revocation, no settings of a node that was never told any.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  await writer.add(['file', name, bytes])
}

/** Through the node, which has the database open: a snapshot of it. */
async function* readRunning(mesh: Mesh): AsyncGenerator<BackupRow[]> {
  // One session: the snapshot belongs to it.
  const session = await mesh.local.session()
  for (let begin = true, done = false; !done; begin = false) {
    const page = await session.call('exportRows', { begin }).catch((error: unknown) => {
      if (!(error instanceof MeshError) || error.code !== 'UnsupportedVersion') throw error
      const sentence =
        'The node that runs here is older than this program and cannot be backed up while it runs. Stop it first (batchmesh down), or restart it.'
      throw new MeshError(error.code, sentence, { cause: error })
    })
    done = page.done
    yield page.rows
  }
}

async function* readStopped(dataDir: string): AsyncGenerator<BackupRow[]> {
  const store = await openLevelStore(layoutOf(dataDir).coordinator)
  try {
    let page: BackupRow[] = []
    let bytes = 0
    for await (const row of store.scan(allRows)) {
      page.push(row)
      bytes += row[0].length + row[1].length
      if (bytes >= maxExportBytes || page.length >= maxExportRows) {
        yield page
        page = []
        bytes = 0
      }
    }
    yield page
  } finally {
    await store.close()
  }
}
