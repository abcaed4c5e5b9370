/** What is on this machine besides the node: Node.js itself, tools, GPUs, limits. */
import { readFileSync } from 'node:fs'
import { showCapacity } from '../format.ts'
import { type Check, ok, problem, warning } from './check.ts'
import { said, which } from './system.ts'

/** As package.json says in `engines`. */
const leastNode = [22, 12] as const
/** A node with 1,000 connections, open blobs and its databases. */
const fewFiles = 4096

export function checkNodeJs(version = process.versions.node, path = process.execPath): Check {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isOld = major < leastNode[0] || (major === leastNode[0] && minor < leastNode[1])
  const found = `${version}, ${path}`
  return isOld ? problem('Node.js', found, `Install Node.js ${leastNode.join('.')} or newer: https://nodejs.org`) : ok('Node.js', found)
}

/** Programs that Batchmesh or its tasks can use, and what for. None is needed; nor is a container engine. */
const tools = ['bwrap', 'unshare', 'setpriv', 'nft', 'mpirun']

export async function checkTools(): Promise<Check> {
  const there = tools.filter((tool) => which(tool) !== undefined)
  const missing = tools.filter((tool) => !there.includes(tool))
  const mpi = /\d+(\.\d+)+/.exec((await said('mpirun', '--version')) ?? '')?.[0]
  const shown = there.map((tool) => (tool === 'mpirun' && mpi !== undefined ? `mpirun ${mpi}` : tool))
  return ok('tools', `${shown.join(', ') || 'none'}${missing.length === 0 ? '' : ` (not here: ${missing.join(', ')})`}`)
}

export async function checkCapacity(): Promise<Check> {
  const { whatThisMachineHas } = await import('../../mesh/doctor.ts')
  const capacity = await whatThisMachineHas()
  return ok('machine', `${showCapacity(capacity)}${capacity.gpus === 0 ? ', no GPUs' : ''}`)
}

/** `limits`: what the system says of this process; Node.js raises its soft limit to the hard one by itself. */
export function checkLimits(limits = processLimits()): Check {
  const hard = /^Max open files\s+\S+\s+(\S+)/m.exec(limits ?? '')?.[1]
  if (hard === undefined) return ok('open files', 'the limit cannot be read here')
  if (hard === 'unlimited' || Number(hard) >= fewFiles) return ok('open files', `at most ${hard}`)
  return warning(
    'open files',
    `at most ${hard}`,
    `Raise it before "up": ulimit -Hn ${16 * fewFiles}, or LimitNOFILE in a service (up --service does).`,
  )
}

function processLimits(): string | undefined {
  try {
    return readFileSync('/proc/self/limits', 'utf8')
  } catch {
    return undefined
  }
}
