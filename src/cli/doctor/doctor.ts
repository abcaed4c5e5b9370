/** `batchmesh doctor`: looks whether a node can run well here, or does, and says what to do about what stands in its way. */
import type { Command } from 'commander'
import { MeshError, toMeshError } from '../../../protocols/errors.ts'
import { defaultPort } from '../../config.ts'
import type { Context } from '../context.ts'
import { visible, visibleLines } from '../output.ts'
import { type Check, problem, warning } from './check.ts'
import { checkClock } from './clock.ts'
import { checkData } from './data.ts'
import { checkFirewall } from './firewall.ts'
import { checkIsolation } from './isolation.ts'
import { checkCapacity, checkLimits, checkNodeJs, checkTools } from './machine.ts'
import { checkMdns } from './mdns.ts'
import { askNode, checkNode, checkVersions } from './node.ts'
import { checkPort, portOf } from './port.ts'

export function register(program: Command, context: Context): void {
  const command = program
    .command('doctor')
    .description(
      'Checks what a node needs on this machine, and the node that runs here if one does: ports, firewall, clock, disk, isolation, versions. Says what to do about each finding; the exit code is 1 when something does not work.',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  batchmesh doctor\n  sudo batchmesh doctor                  sees firewall rules too\n  batchmesh doctor -o json',
    )
  context.action(command, async () => {
    const checks = await examine(context)
    const problems = checks.filter(({ state }) => state === 'problem').length
    const warnings = checks.filter(({ state }) => state === 'warning').length
    if (context.format === 'table') await context.world.stdout.write(text(checks, problems, warnings))
    else if (context.format === 'json') await context.one([], { checks, problems, warnings })
    else await context.list(columns, checks)
    return problems > 0 ? 1 : 0
  })
}

async function examine(context: Context): Promise<Check[]> {
  const [settings, settingsCheck] = await readKept(context.dataDir)
  const facts = await askNode(context)
  const held = facts.node?.addresses ?? []
  const sources = await context.sources()
  // As `up` has it: variables and files before what was kept.
  const configured = sources?.find('up', 'port')?.value
  const wanted = configured === undefined ? (settings.port ?? defaultPort) : Number(configured)
  const port = held.map(portOf).find((found) => found !== undefined) ?? wanted
  const multicast = sources?.find('up', 'mdns')?.value ?? settings.mdns
  const mdns = multicast !== false && multicast !== 'false'
  const data = await attempt('data directory', () => checkData(context.dataDir))
  // What cannot be reached in a directory that is closed to this user says nothing of its own.
  const isClosed = data.some(({ name, state }) => name === 'data directory' && state === 'problem')
  const parts = await Promise.all([
    attempt('Node.js', () => [checkNodeJs()]),
    Promise.resolve(data),
    Promise.resolve(isClosed ? [] : settingsCheck),
    attempt('port', async () => [await checkPort(port, held)]),
    attempt('firewall', async () => [await checkFirewall(port === 0 ? defaultPort : port, mdns)]),
    attempt('local network', async () => [await checkMdns(mdns)]),
    attempt('clock', async () => [await checkClock(facts.skew)]),
    attempt('isolation', checkIsolation),
    attempt('machine', async () => [await checkCapacity()]),
    attempt('tools', async () => [await checkTools()]),
    attempt('open files', () => [checkLimits()]),
    isClosed && facts.nodeTrouble !== undefined ? Promise.resolve([]) : attempt('node', () => checkNode(facts, Date.now())),
    attempt('versions', () => [checkVersions(facts)]),
  ])
  return parts.flat()
}

/** A check that breaks is itself a finding, and keeps no other from being made. */
async function attempt(name: string, check: () => Check[] | Promise<Check[]>): Promise<Check[]> {
  try {
    return await check()
  } catch (error) {
    return [warning(name, `could not be checked: ${toMeshError(error).message}`)]
  }
}

/** The options of earlier starts. */
async function readKept(dataDir: string): Promise<[{ port?: number; mdns?: boolean }, Check[]]> {
  const { readSettings } = await import('../../mesh/settings.ts')
  try {
    return [await readSettings(dataDir), []]
  } catch (error) {
    if (!(error instanceof MeshError)) throw error
    return [{}, [problem('settings', error.message)]]
  }
}

const columns = [
  { title: 'state', value: (check: Check) => check.state },
  { title: 'check', value: (check: Check) => check.name },
  { title: 'found', value: (check: Check) => check.found },
  { title: 'todo', value: (check: Check) => check.todo ?? '' },
]

const marks = { ok: 'ok', warning: 'WARNING', problem: 'PROBLEM' } as const

function text(checks: readonly Check[], problems: number, warnings: number): string {
  const width = Math.max(...checks.map(({ name }) => name.length))
  const lines = checks.flatMap(({ name, state, found, todo }) => [
    `${marks[state].padEnd(7)}  ${name.padEnd(width)}  ${visible(found)}`,
    ...(todo === undefined
      ? []
      : visibleLines(todo)
          .split('\n')
          .map((line) => `${' '.repeat(width + 11)}> ${line}`)),
  ])
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`
  const sum = problems + warnings === 0 ? 'All is well.' : `${count(problems, 'problem')}, ${count(warnings, 'warning')}.`
  return `${lines.join('\n')}\n\n${sum}\n`
}
