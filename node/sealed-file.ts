/**
 * Small files that must never be half written or silently damaged: identity, certificates, the founder's registry. Each
 * carries what it is and a hash of its content; a write replaces the file as a whole and is on the disk when it returns.
 */
import { createHash, randomBytes } from 'node:crypto'
import { open, readFile, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import * as dagCbor from '@ipld/dag-cbor'
import { z } from 'zod'
import { bytesSchema } from '../protocols/bytes.ts'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'

const sealSchema = z.object({ kind: z.string(), body: bytesSchema, sha256: bytesSchema })

/** Undefined when there is no such file. Throws InternalError, naming the file, for one that is damaged or of another kind. */
export async function readSealed<T>(path: string, kind: string, schema: z.ZodType<T>): Promise<T | undefined> {
  let bytes: Uint8Array
  try {
    bytes = await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new MeshError('InternalError', `The file ${path} cannot be read: ${(error as Error).message}`, { cause: error })
  }
  try {
    const seal = sealSchema.parse(dagCbor.decode(bytes))
    if (seal.kind !== kind) throw new Error(`it is of the kind ${seal.kind}, not ${kind}`)
    if (!sha256(seal.body).equals(seal.sha256)) throw new Error('its checksum does not match')
    return schema.parse(dagCbor.decode(seal.body))
  } catch (error) {
    const why = error instanceof z.ZodError ? 'its content is not what it should be' : (error as Error).message
    throw new MeshError(
      'InternalError',
      `The file ${path} is damaged (${why}). Restore it from a backup; without one, remove the directory ${dirname(path)} and join the mesh anew with an invitation.`,
      { cause: error },
    )
  }
}

/** Replaces the file; readable by its owner only. */
export async function writeSealed(path: string, kind: string, value: unknown): Promise<void> {
  const body = dagCbor.encode(value)
  await replaceFile(path, dagCbor.encode({ kind, body, sha256: Uint8Array.from(sha256(body)) }))
}

/** Writes a file whole and durably, or not at all; readable by its owner only. */
export async function replaceFile(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    failpoint('file.replace.written')
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
  failpoint('file.replace.renamed')
  await syncDirectory(dirname(path))
}

/** Makes a rename durable; directories cannot be opened on Windows, where it is not needed. */
async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}
