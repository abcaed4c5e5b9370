import { randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'

/** Writes a file of so many MiB, synced; random, so that nothing can compress or share it. */
export async function writeRandom(path: string, mib: number): Promise<void> {
  const file = await open(path, 'w')
  for (let at = 0; at < mib; at += 1) await file.write(randomBytes(1 << 20))
  await file.datasync()
  await file.close()
}
