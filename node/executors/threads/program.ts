/**
 * The files of the child's program, and Node itself, where the users of lanes can read them. Where the package is
 * installed they often cannot: below a home directory that is closed to others, or in /tmp, of which each lane has its
 * own. And Node looks for packages in many places, all of which its permission model would have to allow. So the program
 * is copied, once a start of the node, into a directory of the node's that lanes see; Node itself only where it has to be.
 */
import { constants } from 'node:fs'
import { chmod, copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Sources run as .ts, the package as .js. */
const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
/** All that host.ts and thread.ts import (test/node/threads: it runs from its copy). */
const sources = [
  ...['host', 'line', 'thread', 'messages', 'channel', 'thrown', 'heap-watch', 'function-environment', 'member', 'parting-link'].map(
    (name) => `node/executors/threads/${name}.${extension}`,
  ),
  ...['environment', 'task-paths'].map((name) => `node/${name}.${extension}`),
  ...['framing', 'codec'].map((name) => `protocols/${name}.${extension}`),
]
/** Of these all files: what a group consists of. */
const sourceDirs = ['node/groups', 'node/groups/collectives', 'node/groups/links']
const packages = ['piscina', '@msgpack/msgpack']

export interface Program {
  /** The Node binary. */
  node: string
  /** The file to execute. */
  entry: string
  /** All that it reads lies there. */
  dir: string
}

/** The directory of the package that a file belongs to. */
async function packageRoot(file: string, name: string): Promise<string> {
  for (let directory = dirname(file); directory !== dirname(directory); directory = dirname(directory)) {
    const text = await readFile(join(directory, 'package.json'), 'utf8').catch(() => undefined)
    if (text === undefined) continue
    // Packages have unnamed ones inside, which say how their files are to be read.
    if ((JSON.parse(text) as { name?: string }).name === name) return directory
  }
  throw new Error(`The package ${name} is not installed as it should be: ${file} belongs to none of that name.`)
}

/** Copies the program into `dir`, anew, for everybody to read. Node is the one that runs here. */
export async function copyProgram(dir: string): Promise<Program> {
  await rm(dir, { recursive: true, force: true })
  await makeOpen(dir)
  const root = fileURLToPath(new URL('../../..', import.meta.url))
  const groups = await Promise.all(sourceDirs.map(async (path) => (await readdir(join(root, path))).map((name) => `${path}/${name}`)))
  for (const source of [...sources, ...groups.flat().filter((path) => path.endsWith(`.${extension}`))]) {
    await makeOpen(join(dir, dirname(source)), dir)
    await copyOpen(join(root, source), join(dir, source))
  }
  await writeFile(join(dir, 'package.json'), '{"type":"module"}\n')
  await chmod(join(dir, 'package.json'), 0o444)
  for (const name of packages) {
    const from = await packageRoot(fileURLToPath(import.meta.resolve(name)), name)
    await makeOpen(join(dir, 'node_modules', dirname(name)), dir)
    await copyTree(from, join(dir, 'node_modules', name))
  }
  return { node: process.execPath, entry: join(dir, sources[0]!), dir }
}

/** Copies the Node binary: some 100 MB where the file system cannot share them. */
export async function copyNode(of: Program, dir: string): Promise<Program> {
  await rm(dir, { recursive: true, force: true })
  await makeOpen(dir)
  const node = join(dir, basename(of.node))
  await copyFile(of.node, node, constants.COPYFILE_FICLONE)
  await chmod(node, 0o555)
  return { ...of, node }
}

async function copyTree(from: string, to: string): Promise<void> {
  await makeOpen(to)
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)]
    if (entry.isDirectory()) await copyTree(source, target)
    else if (/\.(?:[cm]?js|json)$/.test(entry.name)) await copyOpen(source, target)
  }
}

async function copyOpen(from: string, to: string): Promise<void> {
  await copyFile(from, to, constants.COPYFILE_FICLONE)
  await chmod(to, 0o444)
}

/** Makes a directory, with those above it as far as `root`, whatever the umask. */
async function makeOpen(path: string, root = path): Promise<void> {
  if (path !== root) await makeOpen(dirname(path), root)
  await mkdir(path, { recursive: true })
  await chmod(path, 0o755)
}
