/** What dead nodes must not leave: processes, directories, files that were half written, mounts. Linux. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Directories, defaultRetentionMs } from '../../node/directories.ts'

/** Processes that were started for a data directory: it stands in their command line or their environment. Zombies have neither. */
export async function processesOf(dataDir: string): Promise<string[]> {
  const found: string[] = []
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry) || Number(entry) === process.pid) continue
    const read = (name: string) => readFile(`/proc/${entry}/${name}`, 'utf8').catch(() => '')
    const line = await read('cmdline')
    const words = [...line.split('\0'), ...(await read('environ')).split('\0')]
    const isOf = (word: string) => word.includes(`${dataDir}/`) || word.endsWith(dataDir)
    if (words.some(isOf)) found.push(`${entry} (${line.replaceAll('\0', ' ').trim()})`)
  }
  return found
}

/** Directories of tasks that would never expire; the node must have ended. Those of jobs that were deleted while it was away stay until they do. */
export async function strayTasks(dataDir: string): Promise<string[]> {
  const directories = new Directories(join(dataDir, 'tasks'))
  const now = Date.now()
  // The first time seals what its process left unsealed.
  await directories.expire(now)
  await directories.expire(now + defaultRetentionMs + 1)
  const { workitems } = directories.node
  return (await readdir(workitems, { recursive: true })).map((name) => join(workitems, name))
}

/** Below a node's data directory, what no running node needs once all its jobs are deleted. */
export async function strayFiles(dataDir: string): Promise<string[]> {
  const strays: string[] = []
  const look = async (directory: string, isStray: (name: string) => boolean) => {
    const names = await readdir(join(dataDir, directory)).catch((): string[] => [])
    strays.push(...names.filter(isStray).map((name) => join(dataDir, directory, name)))
  }
  const any = () => true
  // Not blobs/partial: an upload that a kill broke off may be gone on with for a week, and is then given up.
  for (const directory of ['blobs/tmp', 'blobs/trash']) await look(directory, any)
  for (const directory of ['.', 'identity']) await look(directory, (name) => name.endsWith('.tmp'))
  await look('.', (name) => name.startsWith('restoring-'))
  const lanes = (await readdir(join(dataDir, 'run')).catch((): string[] => [])).filter((name) => name.startsWith('lanes-'))
  if (lanes.length > 1) strays.push(...lanes.map((name) => join(dataDir, 'run', name)))
  return strays
}

/** Mounts of this namespace at or below a directory. */
export async function mountsBelow(directory: string): Promise<string[]> {
  const lines = (await readFile('/proc/self/mountinfo', 'utf8')).split('\n')
  return lines.map((line) => line.split(' ')[4] ?? '').filter((path) => path === directory || path.startsWith(`${directory}/`))
}
