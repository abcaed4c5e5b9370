/** Resource files from the web. */
import type { FileHandle } from 'node:fs/promises'
import { TaskFailure } from '../ports.ts'

/** Larger files should be put as a blob, which is fetched once for all tasks of a machine. */
export const maxDownloadBytes = 64 * 2 ** 30
/** A server that sends nothing for so long is given up. */
const stallMs = 60_000

function failure(
  code: 'BlobNotFound' | 'BlobDownloadMiscError',
  category: 'usererror' | 'servererror',
  message: string,
  cause?: unknown,
): TaskFailure {
  return new TaskFailure({ category, code, message: message.slice(0, 4096) }, { cause })
}

/** Writes what the URL gives to an open file. Throws TaskFailure with the reason, without the query of the URL, which may hold a secret. */
export async function download(url: string, file: FileHandle, signal: AbortSignal, maxBytes = maxDownloadBytes): Promise<void> {
  const shown = url.replace(/[?#].*$/, '').replace(/\/\/[^/@]*@/, '//')
  const stalled = new AbortController()
  const timer = setTimeout(() => stalled.abort(new Error(`no data for ${stallMs / 1000} s`)), stallMs)
  try {
    const response = await fetch(url, { signal: AbortSignal.any([signal, stalled.signal]) })
    if (!response.ok) {
      await response.body?.cancel()
      const code = response.status === 404 || response.status === 410 ? 'BlobNotFound' : 'BlobDownloadMiscError'
      throw failure(
        code,
        response.status < 500 ? 'usererror' : 'servererror',
        `${shown} answered ${response.status} ${response.statusText}.`,
      )
    }
    const expected =
      response.headers.get('content-encoding') === null ? Number(response.headers.get('content-length') ?? Number.NaN) : Number.NaN
    let bytes = 0
    for await (const piece of response.body ?? []) {
      timer.refresh()
      bytes += piece.length
      if (bytes > maxBytes)
        throw failure('BlobDownloadMiscError', 'usererror', `${shown} is larger than ${maxBytes} bytes; put it as a blob.`)
      await file.writeFile(piece)
    }
    if (!Number.isNaN(expected) && bytes !== expected) {
      throw failure('BlobDownloadMiscError', 'servererror', `${shown} broke off after ${bytes} of ${expected} bytes.`)
    }
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof TaskFailure) throw error
    const reason = stalled.signal.aborted ? (stalled.signal.reason as Error) : error
    throw failure('BlobDownloadMiscError', 'servererror', `${shown} could not be fetched: ${describe(reason)}.`, error)
  } finally {
    clearTimeout(timer)
  }
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // fetch hides the reason ("fetch failed") in the cause.
  return error.cause instanceof Error ? error.cause.message : error.message
}
