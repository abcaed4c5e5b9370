/**
 * A mesh put back from a backup. Everything is made and checked in a directory beside its place, and moved there at the
 * end, the identity last: without it a data directory belongs to no mesh.
 */
import { randomBytes } from 'node:crypto'
import { access, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { RestoredStore } from '../../coordinator/restored.ts'
import { openLevelStore } from '../../coordinator/store.ts'
import { refuseSecondNode } from '../../node/control-socket.ts'
import { identityFiles } from '../../node/identity.ts'
import { layoutOf } from '../../node/layout.ts'
import { renewFounder } from '../../node/restored-identity.ts'
import { MeshError } from '../../protocols/errors.ts'
import { failpoint } from '../../protocols/failpoint.ts'
import { controlSocketPath } from '../config.ts'
import { openBackup } from './backup-file.ts'
import { settingsFile } from './settings.ts'

export interface RestoreOptions {
  dataDir: string
  file: string
  passphrase?: string
}

export interface Restored {
  mesh: string
  /** Peer id of the founder, as before. */
  founder: string
  name: string
  /** When the backup was made, ms since 1970. */
  time: number
  rows: number
  jobs: number
  /** Machines of the mesh that are not revoked. */
  members: number
}

/** What must not be there: a mesh's own. Blobs and task directories may stay. */
const occupying = ['identity', 'coordinator', 'journal'] as const

const stagingPrefix = 'restoring-'

/** Restores into a data directory without a mesh, whole or not at all. Rejects with InvalidPropertyValue where one is there, or with what is wrong with the file. */
export async function restoreMesh({ dataDir, file, passphrase }: RestoreOptions): Promise<Restored> {
  await refuseSecondNode(controlSocketPath(dataDir))
  await sweepRestore(dataDir)
  await refuseOccupied(dataDir)
  const backup = await openBackup(file)
  const firstMade = await mkdir(dataDir, { recursive: true, mode: 0o711 }).catch((error: unknown) => {
    throw new MeshError('InvalidPropertyValue', `The data directory ${dataDir} cannot be made: ${(error as Error).message}`, {
      cause: error,
    })
  })
  const staging = join(dataDir, `${stagingPrefix}${randomBytes(6).toString('hex')}`)
  const made = layoutOf(staging)
  try {
    for (const path of [staging, made.identity, made.coordinator]) await mkdir(path, { mode: 0o700 })
    const store = await openLevelStore(made.coordinator)
    const counts = { rows: 0, jobs: 0 }
    try {
      const restored = new RestoredStore(store, backup.head.founder)
      for await (const entry of backup.entries(passphrase)) {
        if (entry[0] === 'rows') {
          await restored.add(entry[1])
          counts.rows += entry[1].length
          counts.jobs += entry[1].filter(([key]) => key.startsWith('job/')).length
        } else if (entry[0] === 'file') await writeFile(placeOf(staging, made.identity, entry[1]), entry[2], { mode: 0o600, flush: true })
      }
      await restored.finish()
    } finally {
      await store.close()
    }
    const { mesh, peer, members } = await renewFounder(staging)
    if (mesh !== backup.head.mesh || peer !== backup.head.founder)
      throw new MeshError('InvalidPropertyValue', `${file} holds the identity of another mesh than it says.`)
    failpoint('restore.files.made')
    await moveIn(dataDir, staging)
    const { name, time } = backup.head
    return { mesh, founder: peer, name, time, members, ...counts }
  } catch (error) {
    if (firstMade !== undefined) await rm(firstMade, { recursive: true, force: true })
    throw error
  } finally {
    await rm(staging, { recursive: true, force: true })
  }
}

/** Removes what a restore that was killed left behind: it holds a copy of the root key. The data directory is in use by nobody. */
export async function sweepRestore(dataDir: string): Promise<void> {
  for (const name of await readdir(dataDir).catch((): string[] => [])) {
    if (!name.startsWith(stagingPrefix)) continue
    const staging = layoutOf(join(dataDir, name))
    const isThere = (path: string) =>
      access(path).then(
        () => true,
        () => false,
      )
    // It died between its moves: the rows are in their place without the identity that they belong to.
    if ((await isThere(staging.identity)) && !(await isThere(staging.coordinator)))
      await rm(layoutOf(dataDir).coordinator, { recursive: true, force: true })
    await rm(join(dataDir, name), { recursive: true, force: true })
  }
}

async function refuseOccupied(dataDir: string): Promise<void> {
  for (const name of occupying) {
    const path = join(dataDir, name)
    const found = await readdir(path).catch(() => [])
    if (found.length > 0) {
      throw new MeshError(
        'InvalidPropertyValue',
        `${path} is not empty: a machine of a mesh has its data there. Restore into another directory (--data), or move ${occupying.join(', ')} away first.`,
      )
    }
  }
}

function placeOf(staging: string, identity: string, name: string): string {
  if (name === settingsFile) return join(staging, name)
  if (identityFiles.includes(name)) return join(identity, name)
  throw new MeshError('InvalidPropertyValue', `The backup holds a file ${name}, which this version does not know.`)
}

/** Moves what was made to its place; what was moved is taken back when the next cannot be. */
async function moveIn(dataDir: string, staging: string): Promise<void> {
  const moved: string[] = []
  try {
    for (const name of ['coordinator', settingsFile, 'identity']) {
      const target = join(dataDir, name)
      // Empty directories may be there; settings are kept where the backup has none.
      if (name !== settingsFile) await rm(target, { recursive: true, force: true })
      await rename(join(staging, name), target).then(
        () => moved.push(target),
        (error: NodeJS.ErrnoException) => {
          if (error.code !== 'ENOENT' || name !== settingsFile) throw error
        },
      )
      if (name === 'coordinator') failpoint('restore.rows.moved')
    }
  } catch (error) {
    for (const path of moved) await rm(path, { recursive: true, force: true })
    throw error
  }
}
