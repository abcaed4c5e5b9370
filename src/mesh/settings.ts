/** How a machine takes part, as its owner said at some start: kept in the data directory, so that a later start needs no options. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { replaceFile } from '../../node/sealed-file.ts'
import { MeshError } from '../../protocols/errors.ts'
import { machineClassSchema } from '../../protocols/model/machine.ts'
import { labelsSchema } from '../../protocols/model/resources.ts'
import { firstIssue } from '../../protocols/rpc.ts'

/**
 * Fields of UpOptions; absent is what nobody ever said. The file has no version: each setting stands for itself, and one
 * that this version does not know is refused by its name, never passed over.
 */
export const settingsSchema = z.strictObject({
  port: z.number().int().min(0).max(65_535).optional(),
  listen: z.array(z.string()).optional(),
  announce: z.array(z.string()).optional(),
  bootstrap: z.array(z.string()).optional(),
  mdns: z.boolean().optional(),
  lendCpus: z.number().min(0).optional(),
  lendMemoryMiB: z.number().positive().optional(),
  blobQuotaMiB: z.number().positive().optional(),
  diskReserveMiB: z.number().min(0).optional(),
  pidsLimit: z.number().int().positive().optional(),
  labels: labelsSchema.optional(),
  class: machineClassSchema.optional(),
  name: z.string().optional(),
})
export type Settings = z.infer<typeof settingsSchema>

/** What was given now replaces what was kept, each setting as a whole: addresses and labels are not added to the earlier ones. */
export function mergeSettings(kept: Settings, given: Settings): Settings {
  return { ...kept, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) }
}

/** None when nothing was kept. Throws InvalidPropertyValue, naming the file, when it cannot be read. */
export async function readSettings(dataDir: string): Promise<Settings> {
  const path = settingsPath(dataDir)
  const trouble = (why: string) =>
    new MeshError(
      'InvalidPropertyValue',
      `The settings in ${path} cannot be used (${why}). Mend the file, or start with --defaults to replace it.`,
    )
  let value: unknown
  try {
    value = JSON.parse(await readFile(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {}
    throw trouble((error as Error).message)
  }
  const read = settingsSchema.safeParse(value)
  if (!read.success) throw trouble(firstIssue(read.error))
  return read.data
}

/** Replaces the file as a whole; readable by its owner only. */
export async function writeSettings(dataDir: string, settings: Settings): Promise<void> {
  await replaceFile(settingsPath(dataDir), new TextEncoder().encode(`${JSON.stringify(settings, null, 2)}\n`))
}

/** In the data directory. */
export const settingsFile = 'settings.json'

function settingsPath(dataDir: string): string {
  return join(dataDir, settingsFile)
}
