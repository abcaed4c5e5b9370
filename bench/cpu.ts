/** What processes have used of the CPU, as /proc tells (Linux): a rate depends on what else the machine does, this hardly. */
import { readdirSync, readFileSync } from 'node:fs'

/** USER_HZ, in which /proc counts: 100 on every architecture that Node runs on. */
const msPerTick = 10

export interface CpuMs {
  user: number
  system: number
}

interface Stat {
  parent: number
  own: CpuMs
  /** Of its children that have ended and were waited for, and of theirs. */
  ended: CpuMs
}

function stats(): Map<number, Stat> {
  const found = new Map<number, Stat>()
  for (const name of readdirSync('/proc')) {
    if (!/^[0-9]+$/.test(name)) continue
    try {
      const text = readFileSync(`/proc/${name}/stat`, 'latin1')
      // The second field is the program's name in parentheses, which may hold anything.
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
      const ms = (at: number) => Number(fields[at]) * msPerTick
      found.set(Number(name), {
        parent: Number(fields[1]),
        own: { user: ms(11), system: ms(12) },
        ended: { user: ms(13), system: ms(14) },
      })
    } catch {
      // It ended meanwhile.
    }
  }
  return found
}

export interface TreeCpu {
  /** Of the process itself, all its threads. */
  own: CpuMs
  /** Of all below it, those that have ended included. */
  below: CpuMs
}

/** The process and all below it. */
export function processesOfTree(pid: number): number[] {
  return treeOf(pid, stats())
}

function treeOf(pid: number, all: ReadonlyMap<number, Stat>): number[] {
  if (!all.has(pid)) throw new Error(`There is no process ${pid}, or no /proc.`)
  const tree = [pid]
  for (let at = 0; at < tree.length; at += 1) for (const [child, { parent }] of all) if (parent === tree[at]) tree.push(child)
  return tree
}

export function cpuOfTree(pid: number): TreeCpu {
  const all = stats()
  const [root, ...others] = treeOf(pid, all).map((each) => all.get(each)!)
  const below = { ...root!.ended }
  for (const { own, ended } of others) {
    below.user += own.user + ended.user
    below.system += own.system + ended.system
  }
  return { own: root!.own, below }
}

export function cpuSince(before: TreeCpu, after: TreeCpu): TreeCpu {
  const minus = (a: CpuMs, b: CpuMs): CpuMs => ({ user: a.user - b.user, system: a.system - b.system })
  return { own: minus(after.own, before.own), below: minus(after.below, before.below) }
}
