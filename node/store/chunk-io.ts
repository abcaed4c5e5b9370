/**
 * Chunks between disk and memory, hashed on the way (B1). Reading, writing and hashing (WebCrypto) each go to libuv's
 * threads and take the bytes as they lie: the main thread neither waits nor copies, and no bytes are handed to a thread
 * and back.
 */
import { webcrypto } from 'node:crypto'
import { type FileHandle, open } from 'node:fs/promises'

/** More than a stream hands over at once: sockets of Node 64 KiB, libp2p's streams no more. */
const joinedBytes = 256 << 10
/** What a frame has around the bytes of its chunk, at most. */
const frameOverheadBytes = 512

/** SHA-256 of the bytes, which must not change meanwhile. */
export async function digestOf(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await webcrypto.subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>))
}

/** Reads one chunk; undefined when its bytes do not match. Rejects when the file cannot be read. */
export async function readChunk(from: {
  path: string
  offset: number
  length: number
  digest: Uint8Array
}): Promise<Uint8Array | undefined> {
  const file = await open(from.path, 'r')
  try {
    // Not of the pool of small buffers, and not zeroed: the file's bytes come at once.
    const bytes = Buffer.allocUnsafeSlow(from.length)
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await file.read(bytes, at, bytes.length - at, from.offset + at)
      if (bytesRead === 0) return undefined
      at += bytesRead
    }
    return (await matches(bytes, from.digest)) ? bytes : undefined
  } finally {
    await file.close()
  }
}

/** Writes one chunk if its bytes match; false, and nothing is written, when they do not. */
export async function writeChunk(file: FileHandle, offset: number, bytes: Uint8Array, digest: Uint8Array): Promise<boolean> {
  if (!(await matches(bytes, digest))) return false
  await writeFully(file, bytes, offset)
  return true
}

/** Writes one chunk and says its digest. */
export async function appendChunk(file: FileHandle, offset: number, bytes: Uint8Array): Promise<Uint8Array> {
  const [digest] = await Promise.all([digestOf(bytes), writeFully(file, bytes, offset)])
  return digest
}

/**
 * Gives the memory of a chunk that came in a frame back at once. Only of one so large that no stream hands it over in one
 * piece: its frame was put together in a buffer of its own (framing.ts), where nobody else has a part. The collector would be
 * woken by every few of such buffers, and each time look through the whole heap.
 */
export function free(chunk: Uint8Array): void {
  const { buffer } = chunk
  if (chunk.length < joinedBytes || buffer.byteLength - chunk.length >= frameOverheadBytes) return
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0)
}

async function matches(bytes: Uint8Array, digest: Uint8Array): Promise<boolean> {
  return Buffer.compare(await digestOf(bytes), digest) === 0
}

async function writeFully(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten
}
