/** Processes as /proc shows them. Each function finds nothing where there is no /proc. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    // The process ended meanwhile, or there is no /proc.
    return ''
  }
}

/** Process ids of all that run here. */
export function processIds(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^[0-9]+$/.test(name))
      .map(Number)
  } catch {
    return []
  }
}

/** Parent of a process, or 0. */
export function parentOf(pid: number): number {
  const stat = read(`/proc/${pid}/stat`)
  // The second field is the program's name in parentheses, which may hold anything: count from the last one.
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1] ?? 0)
}

/** Children of a process. */
export function childrenOf(pid: number): number[] {
  const listed = read(`/proc/${pid}/task/${pid}/children`)
  if (listed !== '') return listed.trim().split(' ').map(Number)
  return processIds().filter((other) => parentOf(other) === pid)
}

/** All below a process, itself not included. In a pid namespace nothing can leave the tree of its pid 1. */
export function descendantsOf(root: number): number[] {
  const children = new Map<number, number[]>()
  for (const pid of processIds()) {
    const parent = parentOf(pid)
    const siblings = children.get(parent)
    if (siblings === undefined) children.set(parent, [pid])
    else siblings.push(pid)
  }
  const found: number[] = []
  const open = [root]
  for (let pid = open.pop(); pid !== undefined; pid = open.pop()) {
    for (const child of children.get(pid) ?? []) {
      found.push(child)
      open.push(child)
    }
  }
  return found
}

/** Living processes with a text in a file of theirs in /proc. Zombies are left out: nobody may ever reap them. */
export function processesWith(file: 'environ' | 'status', text: string): number[] {
  return processIds().filter((pid) => read(`/proc/${pid}/${file}`).includes(text) && !/^State:\s+[ZX]/m.test(read(`/proc/${pid}/status`)))
}

/** The pid namespace of this process, such as `pid:[4026531836]`; empty where there are none. */
export function ownPidNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid')
  } catch {
    return ''
  }
}

/** Sends a signal; a process that is gone is no error. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // Gone already.
  }
}
