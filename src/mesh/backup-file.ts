/**
 * The file of a backup. It is written whole or not at all, for its owner's eyes only, and checked whole before anything
 * in it is used.
 *
 *   batchmesh backup 1\n      what it is, and its format
 *   frame                     the head, JSON in clear: which mesh, when, by which version, how it is encrypted
 *   frames, maybe encrypted   MessagePack: ['file', name, bytes] …, ['rows', [[key, value] …]] …, ['end', {files, rows}]
 *   16 bytes, if encrypted    AES-256-GCM's tag; the head is authenticated with it
 *   32 bytes                  SHA-256 of all before
 *
 * A frame is four bytes of length, big-endian, and so many bytes (protocols/framing.ts).
 */
import {
  type CipherGCM,
  createCipheriv,
  createDecipheriv,
  createHash,
  type DecipherGCM,
  randomBytes,
  scrypt,
  timingSafeEqual,
} from 'node:crypto'
import { createReadStream } from 'node:fs'
import { type FileHandle, open, rename, stat, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { bytesSchema } from '../../protocols/bytes.ts'
import { decode, encode } from '../../protocols/codec.ts'
import { MeshError } from '../../protocols/errors.ts'
import { FrameDecoder, frameHeaderBytes, writeFrameHeader } from '../../protocols/framing.ts'
import { maxExportBytes } from '../../protocols/local.ts'

const magic = 'batchmesh backup 1\n'
const magicOfAnyFormat = /^batchmesh backup (\d+)\n/
const hashBytes = 32
const tagBytes = 16
const algorithm = 'aes-256-gcm'
/** A head has some hundred bytes. */
const maxHeadBytes = 64 * 1024
/** A page of rows may be one row longer than it should. */
const maxEntryBytes = 2 * maxExportBytes

/** 32 MiB and about 0.1 s for each guess (RFC 7914, interactive use); kept in the head, so that later files may cost more. */
const cost = { N: 2 ** 15, r: 8, p: 1 }

const encryptionSchema = z.object({
  kdf: z.literal('scrypt'),
  N: z
    .number()
    .int()
    .max(2 ** 20),
  r: z.number().int().max(64),
  p: z.number().int().max(16),
  salt: z.base64(),
  iv: z.base64(),
  /** SHA-256 of the half of the derived bytes that is not the key: tells a wrong passphrase from a damaged file. */
  check: z.base64(),
})
const headSchema = z.object({
  mesh: z.string(),
  founder: z.string(),
  /** Name of the founder's machine. */
  name: z.string(),
  /** Ms since 1970. */
  time: z.number(),
  /** Of the program that wrote it. */
  version: z.string(),
  encryption: encryptionSchema.optional(),
})
export type BackupHead = z.infer<typeof headSchema>

const rowsSchema = z.array(z.tuple([z.string(), bytesSchema]))
const entrySchema = z.union([
  z.tuple([z.literal('file'), z.string().regex(/^[a-z.-]{1,64}$/), bytesSchema]),
  z.tuple([z.literal('rows'), rowsSchema]),
  z.tuple([z.literal('end'), z.object({ files: z.number().int(), rows: z.number().int() })]),
])
export type BackupEntry = z.infer<typeof entrySchema>
export type BackupRow = z.infer<typeof rowsSchema>[number]

/** The key for a passphrase, and what proves that it is the right one. */
async function deriveKey(passphrase: string, salt: Uint8Array, { N, r, p }: typeof cost): Promise<{ key: Buffer; check: Buffer }> {
  const derive = promisify<string, Uint8Array, number, object, Buffer>(scrypt)
  const bytes = await derive(passphrase.normalize('NFC'), salt, 64, { N, r, p, maxmem: 128 * N * r + 2 ** 20 })
  return { key: bytes.subarray(0, 32), check: createHash('sha256').update(bytes.subarray(32)).digest() }
}

export class BackupWriter {
  readonly #file: FileHandle
  readonly #path: string
  readonly #temporary: string
  readonly #hash = createHash('sha256')
  #cipher: CipherGCM | undefined
  #counts = { files: 0, rows: 0 }
  bytes = 0

  private constructor(file: FileHandle, path: string, temporary: string) {
    this.#file = file
    this.#path = path
    this.#temporary = temporary
  }

  /** Rejects with InvalidPropertyValue when the file is there already (unless `replace`) or cannot be made. */
  static async create(
    path: string,
    head: Omit<BackupHead, 'encryption'>,
    options: { passphrase?: string; replace?: boolean },
  ): Promise<BackupWriter> {
    if (options.replace !== true && (await exists(path)))
      throw new MeshError('InvalidPropertyValue', `${path} is there already. Name another file, or replace it with --replace.`)
    const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
    const file = await open(temporary, 'wx', 0o600).catch((error: unknown) => {
      throw new MeshError('InvalidPropertyValue', `The backup cannot be written to ${path}: ${(error as Error).message}`, { cause: error })
    })
    const writer = new BackupWriter(file, path, temporary)
    try {
      await writer.#begin(head, options.passphrase)
      return writer
    } catch (error) {
      await writer.abort()
      throw error
    }
  }

  async #begin(head: Omit<BackupHead, 'encryption'>, passphrase: string | undefined): Promise<void> {
    await this.#write(Buffer.from(magic))
    if (passphrase === undefined) return this.#write(framed(Buffer.from(JSON.stringify(head))))
    const [salt, iv] = [randomBytes(16), randomBytes(12)]
    const { key, check } = await deriveKey(passphrase, salt, cost)
    const texts = { salt: salt.toString('base64'), iv: iv.toString('base64'), check: check.toString('base64') }
    const bytes = Buffer.from(JSON.stringify({ ...head, encryption: { kdf: 'scrypt', ...cost, ...texts } }))
    await this.#write(framed(bytes))
    this.#cipher = createCipheriv(algorithm, key, iv).setAAD(bytes)
  }

  async add(entry: BackupEntry): Promise<void> {
    if (entry[0] === 'file') this.#counts.files += 1
    else if (entry[0] === 'rows') this.#counts.rows += entry[1].length
    const frame = framed(encode(entry))
    await this.#write(this.#cipher?.update(frame) ?? frame)
  }

  /** The file is in its place, and on the disk, when this resolves. */
  async finish(): Promise<{ files: number; rows: number; bytes: number }> {
    await this.add(['end', this.#counts])
    if (this.#cipher !== undefined) {
      await this.#write(this.#cipher.final())
      await this.#write(this.#cipher.getAuthTag())
    }
    await this.#file.write(this.#hash.digest())
    await this.#file.sync()
    await this.#file.close()
    await rename(this.#temporary, this.#path)
    await syncDirectory(dirname(this.#path))
    return { ...this.#counts, bytes: this.bytes + hashBytes }
  }

  /** Leaves nothing behind. */
  async abort(): Promise<void> {
    await this.#file.close().catch(() => undefined)
    await unlink(this.#temporary).catch(() => undefined)
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes)
    this.bytes += bytes.length
    await this.#file.writeFile(bytes)
  }
}

/** A backup that was found whole: its checksum matched. */
export interface BackupFile {
  head: BackupHead
  /** The entries in order, up to the end, which is checked. Rejects with InvalidPropertyValue for a wrong passphrase, or none where one is needed. */
  entries(passphrase: string | undefined): AsyncGenerator<BackupEntry>
}

/** Reads the whole file once. Rejects with InvalidPropertyValue, naming it, when it is no backup, damaged or of a newer format. */
export async function openBackup(path: string): Promise<BackupFile> {
  const trouble = (why: string, cause?: unknown) => new MeshError('InvalidPropertyValue', `${path} ${why}.`, { cause })
  const { size, start } = await readStart(path).catch((error: unknown) => {
    throw trouble(`cannot be read: ${(error as Error).message}`, error)
  })
  const format = magicOfAnyFormat.exec(start.toString('latin1'))?.[1]
  if (format === undefined) throw trouble('is no backup of a mesh')
  if (!start.toString('latin1').startsWith(magic)) throw trouble(`is a backup of format ${format}, which this version does not know`)
  const hash = createHash('sha256')
  for await (const piece of pieces(path, 0, size - hashBytes)) hash.update(piece)
  const said = await collect(path, size - hashBytes, size)
  if (said.length !== hashBytes || !timingSafeEqual(hash.digest(), said)) throw trouble('is damaged: its checksum does not match')
  const headAt = magic.length + frameHeaderBytes
  const headLength = start.readUInt32BE(magic.length)
  const headBytes = start.subarray(headAt, headAt + headLength)
  const head = headSchema.safeParse(parseJson(headBytes))
  if (!head.success) throw trouble('has a head that this version does not understand')
  const body = { from: headAt + headLength, to: size - hashBytes }
  return { head: head.data, entries: (passphrase) => entriesOf(path, head.data, headBytes, body, passphrase, trouble) }
}

async function* entriesOf(
  path: string,
  head: BackupHead,
  headBytes: Buffer,
  { from, to }: { from: number; to: number },
  passphrase: string | undefined,
  trouble: (why: string, cause?: unknown) => MeshError,
): AsyncGenerator<BackupEntry> {
  const { encryption } = head
  let decipher: DecipherGCM | undefined
  if (encryption !== undefined) {
    if (passphrase === undefined) throw trouble('is encrypted: give its passphrase with --passphrase-file')
    const { key, check } = await deriveKey(passphrase, Buffer.from(encryption.salt, 'base64'), encryption)
    if (!check.equals(Buffer.from(encryption.check, 'base64'))) throw trouble('is encrypted with another passphrase')
    const gcm = createDecipheriv(algorithm, key, Buffer.from(encryption.iv, 'base64')).setAAD(headBytes)
    decipher = gcm.setAuthTag(await collect(path, to - tagBytes, to))
  }
  const decoder = new FrameDecoder(maxEntryBytes)
  const counts = { files: 0, rows: 0 }
  let end: typeof counts | undefined
  for await (const piece of pieces(path, from, decipher === undefined ? to : to - tagBytes)) {
    const frames: Uint8Array[] = []
    decoder.push(decipher?.update(piece) ?? piece, frames)
    for (const frame of frames) {
      const entry = entrySchema.parse(decode(frame))
      if (entry[0] === 'end') end = entry[1]
      else {
        if (entry[0] === 'file') counts.files += 1
        else counts.rows += entry[1].length
        yield entry
      }
    }
  }
  try {
    decipher?.final()
  } catch (error) {
    throw trouble('was changed after it was made: its authentication fails', error)
  }
  if (end === undefined || end.files !== counts.files || end.rows !== counts.rows) throw trouble('is not whole')
}

function framed(bytes: Uint8Array): Buffer {
  const frame = Buffer.alloc(frameHeaderBytes + bytes.length)
  writeFrameHeader(frame, 0, bytes.length)
  frame.set(bytes, frameHeaderBytes)
  return frame
}

function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}

async function readStart(path: string): Promise<{ size: number; start: Buffer }> {
  const file = await open(path)
  try {
    const buffer = Buffer.alloc(maxHeadBytes)
    const { bytesRead } = await file.read(buffer, 0, buffer.length, 0)
    return { size: (await file.stat()).size, start: buffer.subarray(0, bytesRead) }
  } finally {
    await file.close()
  }
}

async function* pieces(path: string, from: number, to: number): AsyncGenerator<Buffer> {
  if (to > from) yield* createReadStream(path, { start: from, end: to - 1, highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>
}

async function collect(path: string, from: number, to: number): Promise<Buffer> {
  const all: Buffer[] = []
  for await (const piece of pieces(path, Math.max(from, 0), to)) all.push(piece)
  return Buffer.concat(all)
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
