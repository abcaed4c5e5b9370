/**
 * Where a node may make control groups, best first. In version 1 that is below its own group in each hierarchy. In version 2
 * a group with limits below it holds no process itself, and only some groups may be changed:
 *
 * - the node's own group, where the node is alone in it (a service with `Delegate=yes`, a container): it moves to a leaf;
 * - the nearest group above it that has limits for its children already (`system.slice` to root, `app.slice` of a user whose
 *   session is delegated to it).
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { CgroupPlace, Controller } from './cgroup.ts'

const controllers: readonly Controller[] = ['memory', 'pids']
/** Where the node itself moves to. */
const leafName = 'batchmesh-node'

/** `prepare` makes the place ready, and throws when that cannot be. */
export interface Candidate {
  place: CgroupPlace
  prepare: () => void
}

/** `systemRoot` is the root directory, unless a test says otherwise. */
export function candidatePlaces(systemRoot = '/'): Candidate[] {
  const own = new Map<string, string>()
  for (const line of read(join(systemRoot, 'proc/self/cgroup')).split('\n')) {
    // hierarchy:controllers:path; the second is empty in version 2.
    const [, names, path] = /^[0-9]+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (names !== undefined && path !== undefined) for (const name of names.split(',')) own.set(name, path)
  }
  const base = join(systemRoot, 'sys/fs/cgroup')
  return [...unified(base, own.get('')), ...legacy(base, own)]
}

/** Both hierarchies, else the one that can be had. */
function legacy(base: string, own: ReadonlyMap<string, string>): Candidate[] {
  const above: CgroupPlace['above'] = {}
  for (const controller of controllers) {
    const path = own.get(controller)
    // In a container what is mounted may be the own group already.
    const dir = path === undefined ? undefined : [within(join(base, controller), path), join(base, controller)].find((at) => existsSync(at))
    if (dir !== undefined) above[controller] = dir
  }
  const { memory, pids } = above
  const places = [{ ...(memory && { memory }), ...(pids && { pids }) }, ...(memory && pids ? [{ memory }, { pids }] : [])]
  return places
    .filter((place) => Object.keys(place).length > 0)
    .map((place) => ({ place: { version: 1, above: place }, prepare: () => undefined }))
}

function unified(base: string, path: string | undefined): Candidate[] {
  if (path === undefined || !existsSync(join(base, 'cgroup.controllers'))) return []
  const candidates: Candidate[] = []
  const own = within(base, path)
  const usable = wordsOf(join(own, 'cgroup.controllers'))
  if (usable.length > 0) candidates.push({ place: placeIn(own, usable), prepare: () => enableAround(own, usable) })
  for (let dir = dirname(own); dir.length >= base.length; dir = dirname(dir)) {
    const given = wordsOf(join(dir, 'cgroup.subtree_control'))
    if (given.length > 0) candidates.push({ place: placeIn(dir, given), prepare: () => undefined })
  }
  return candidates
}

/** The path of a group as a directory, without a slash at its end. */
function within(base: string, path: string): string {
  return join(base, path).replace(/\/$/, '')
}

function placeIn(dir: string, given: readonly Controller[]): CgroupPlace {
  return { version: 2, above: Object.fromEntries(given.map((controller) => [controller, dir])) }
}

/** Lets groups below a group have limits. Throws what the system says. */
export function enable(dir: string, wanted: readonly Controller[]): void {
  const had = wordsOf(join(dir, 'cgroup.subtree_control'))
  const missing = wanted.filter((controller) => !had.includes(controller))
  if (missing.length > 0) writeFileSync(join(dir, 'cgroup.subtree_control'), missing.map((controller) => `+${controller}`).join(' '))
}

/** The same in the node's own group, which it leaves for a leaf if it has to, and if nobody else is there. */
function enableAround(own: string, wanted: readonly Controller[]): void {
  try {
    return enable(own, wanted)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY') throw error
  }
  const others = read(join(own, 'cgroup.procs'))
    .split('\n')
    .filter((line) => line !== '' && Number(line) !== process.pid)
  if (others.length > 0) throw new Error(`other processes run in the group ${own}, which is for the node alone if it is to have limits`)
  const leaf = join(own, leafName)
  mkdirSync(leaf, { recursive: true })
  writeFileSync(join(leaf, 'cgroup.procs'), `${process.pid}`)
  try {
    enable(own, wanted)
  } catch (error) {
    writeFileSync(join(own, 'cgroup.procs'), `${process.pid}`)
    rmdirSync(leaf)
    throw error
  }
}

/** Those of the two controllers that a file names. */
function wordsOf(path: string): Controller[] {
  const words = read(path).trim().split(/\s+/)
  return controllers.filter((controller) => words.includes(controller))
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // Not there, or not for us.
    return ''
  }
}
