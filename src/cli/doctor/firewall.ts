/** Which firewall a machine has, and the lines that let a node's port through it. The decisions are functions of what the tools printed. */
import { readFileSync } from 'node:fs'
import { type Check, ok, warning } from './check.ts'
import { said, which } from './system.ts'

/** What the tools of a machine say; absent: the tool is missing, or this user may not ask it. */
export interface FirewallFacts {
  /** `ufw status`, or undefined. */
  ufw?: string
  /** The configuration says that ufw is on, which every user may read. */
  ufwEnabled?: boolean
  /** `firewall-cmd --state` said running. */
  firewalld?: boolean
  /** Ports and services of firewalld's default zone. */
  firewalldAllows?: string
  /** `nft list ruleset`. */
  nft?: string
  /** `iptables -S INPUT`. */
  iptables?: string
}

interface Advice {
  tool: string
  /** Whether the port seems to pass already; undefined: this user may not see. */
  passes: boolean | undefined
  /** To paste, as root. */
  lines: string[]
}

/** What stands between others and the port; undefined when nothing was found that turns anybody away. */
export function firewallAdvice(facts: FirewallFacts, port: number, mdns: boolean): Advice | undefined {
  const { ufw, ufwEnabled, firewalld, firewalldAllows, nft, iptables } = facts
  if (ufw?.includes('Status: active') || (ufw === undefined && ufwEnabled === true)) {
    const lines = [`ufw allow ${port}/tcp`, ...(mdns ? ['ufw allow 5353/udp'] : [])]
    return { tool: 'ufw', passes: ufw === undefined ? undefined : new RegExp(`^${port}(/tcp)?\\s+ALLOW`, 'm').test(ufw), lines }
  }
  if (firewalld === true) {
    const lines = [`firewall-cmd --permanent --add-port=${port}/tcp${mdns ? ' --add-service=mdns' : ''}`, 'firewall-cmd --reload']
    return { tool: 'firewalld', passes: firewalldAllows?.split(/\s+/).includes(`${port}/tcp`), lines }
  }
  const chain = nft === undefined ? undefined : strictChain(nft)
  if (nft !== undefined && chain !== undefined) {
    const rule = (what: string) => `nft insert rule ${chain} ${what} accept`
    const lines = [rule(`tcp dport ${port}`), ...(mdns ? [rule('udp dport 5353')] : [])]
    return { tool: 'nftables', passes: new RegExp(`dport \\{?[^\\n]*\\b${port}\\b[^\\n]*accept`).test(nft), lines }
  }
  if (iptables !== undefined && /^-P INPUT (DROP|REJECT)|^-A INPUT -j (DROP|REJECT)/m.test(iptables)) {
    const lines = [
      `iptables -I INPUT -p tcp --dport ${port} -j ACCEPT`,
      ...(mdns ? ['iptables -I INPUT -p udp --dport 5353 -j ACCEPT'] : []),
    ]
    return { tool: 'iptables', passes: new RegExp(`--dport ${port} .*-j ACCEPT`).test(iptables), lines }
  }
  return undefined
}

/** `family table chain` of the first chain that hooks incoming packets and turns away what no rule lets in. */
function strictChain(ruleset: string): string | undefined {
  let table: string | undefined
  let chain: string | undefined
  let isInput = false
  for (const line of ruleset.split('\n')) {
    const newTable = /^table (\S+ \S+) \{/.exec(line)
    const newChain = /^\s+chain (\S+) \{/.exec(line)
    if (newTable !== null) table = newTable[1]
    if (newChain !== null) {
      chain = newChain[1]
      isInput = false
    }
    if (/hook input\b/.test(line)) isInput = true
    if (isInput && (/policy drop/.test(line) || /^\s+(counter\b[^;]*)?(drop|reject)\b[^;]*$/.test(line))) return `${table} ${chain}`
  }
  return undefined
}

export async function firewallFacts(): Promise<FirewallFacts> {
  const isRoot = process.getuid?.() === 0
  const [ufw, state, nft, iptables] = await Promise.all([
    isRoot ? said('ufw', 'status') : undefined,
    said('firewall-cmd', '--state'),
    isRoot ? said('nft', 'list', 'ruleset') : undefined,
    isRoot ? said('iptables', '-S', 'INPUT') : undefined,
  ])
  const firewalld = state?.trim() === 'running'
  const firewalldAllows = firewalld ? await said('firewall-cmd', '--list-ports') : undefined
  return { ufw, ufwEnabled: which('ufw') === undefined ? false : ufwIsOn(), firewalld, firewalldAllows, nft, iptables }
}

function ufwIsOn(): boolean {
  try {
    return /^ENABLED=yes/m.test(readFileSync('/etc/ufw/ufw.conf', 'utf8'))
  } catch {
    return false
  }
}

export async function checkFirewall(port: number, mdns: boolean): Promise<Check> {
  const advice = firewallAdvice(await firewallFacts(), port, mdns)
  if (advice === undefined) {
    const seen = process.getuid?.() === 0 ? '' : ' that this user may see; run as root to see all'
    return ok('firewall', `none found on this machine${seen}`)
  }
  const { tool, passes, lines } = advice
  if (passes === true) return ok('firewall', `${tool} lets port ${port} in`)
  const what =
    passes === undefined ? `${tool} is on; whether it lets port ${port} in only root may see` : `${tool} does not let port ${port} in`
  return warning(
    'firewall',
    `${what}. Without it other machines reach this one only over connections that it makes itself`,
    lines.join('\n'),
  )
}
