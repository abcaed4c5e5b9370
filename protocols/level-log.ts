/**
 * Whether the files of a LevelDB are those that it left. LevelDB itself passes over damage in its log, which holds the
 * newest rows: it opens, and they are gone without a word. It also makes a new database, and removes the files of the old
 * one, where the file CURRENT is missing. Both are found here, before it opens. Damage in tables it finds when it reads them.
 * Layout: leveldb/doc/log_format.md.
 */

const blockBytes = 32 * 1024
/** Checksum, length, type. */
const headerBytes = 7
/** Types of records: a whole batch, or the first piece of one; others go on with a batch. */
const full = 1
const first = 2
const lastType = 4

/** What to do where the system keeps LevelDB from its files, which may then be whole; undefined where they are at fault. */
export function systemAdvice(message: string): string | undefined {
  if (message.includes('Too many open files')) return 'The node may not open enough files: raise the limit (ulimit -n 65536)'
  if (message.includes('No space left on device')) return 'Free some space'
  if (/Permission denied|Read-only file system/.test(message)) return 'Let the user that runs the node write there'
  return undefined
}

/** What is wrong with the files by their names; undefined when nothing is. */
export function filesTrouble(names: readonly string[]): string | undefined {
  const hasLog = names.some((name) => name.endsWith('.log'))
  if (!names.includes('CURRENT')) return hasLog || names.some((name) => name.endsWith('.ldb')) ? 'the file CURRENT is missing' : undefined
  // The first start writes this manifest, then a log, then another manifest; it may have broken off in between.
  const isBegun = names.filter((name) => name.startsWith('MANIFEST-')).every((name) => name === 'MANIFEST-000001')
  return hasLog || isBegun ? undefined : 'its newest rows are missing: it has no log'
}

/**
 * Whether rows that were on the disk have been damaged: a record that does not match its checksum is followed by a batch
 * that begins and does. A batch is written when the one before is synced, so only the last can be torn by a crash.
 */
export function isLogDamaged(log: Uint8Array): boolean {
  let broken = false
  for (let block = 0; block < log.length; block += blockBytes) {
    const end = Math.min(block + blockBytes, log.length)
    for (let at = block; at + headerBytes <= end; ) {
      const length = log[at + 4]! | (log[at + 5]! << 8)
      const type = log[at + 6]!
      const next = at + headerBytes + length
      const isRecord = type >= full && type <= lastType && next <= end && readChecksum(log, at) === checksum(log.subarray(at + 6, next))
      if (isRecord && broken && (type === full || type === first)) return true
      if (!isRecord) broken = true
      // Where a length cannot be believed, the next block is looked at.
      if (next > end || type === 0) break
      at = next
    }
  }
  return false
}

/** How the files of one are read; both may throw. A log has some MiB at most. */
export interface LevelFiles {
  list: () => string[]
  read: (name: string) => Uint8Array
}

/** What has happened to a LevelDB, before it is opened; undefined when nothing has, or there is none yet. */
export function levelDamage({ list, read }: LevelFiles): string | undefined {
  const names = orNothing(list) ?? []
  const trouble = filesTrouble(names)
  if (trouble !== undefined) return trouble
  for (const name of names) {
    if (!name.endsWith('.log')) continue
    // Gone meanwhile, when another process uses it: opening says so.
    const log = orNothing(() => read(name))
    if (log !== undefined && isLogDamaged(log)) return `the rows in ${name} do not match their checksums`
  }
  return undefined
}

function orNothing<T>(read: () => T): T | undefined {
  try {
    return read()
  } catch {
    return undefined
  }
}

function readChecksum(log: Uint8Array, at: number): number {
  return (log[at]! | (log[at + 1]! << 8) | (log[at + 2]! << 16) | (log[at + 3]! << 24)) >>> 0
}

const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1
  return value
})

/** CRC-32C, masked as LevelDB stores it. */
function checksum(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (let at = 0; at < bytes.length; at += 1) crc = (crc >>> 8) ^ table[(crc ^ bytes[at]!) & 255]!
  crc = ~crc >>> 0
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}
