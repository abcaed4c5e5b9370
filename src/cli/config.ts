/** `batchmesh config show`: what is set, and where. */
import { existsSync } from 'node:fs'
import type { Command, Option } from 'commander'
import { configFiles, dataDirectory, defaultPort } from '../config.ts'
import { pathOf, readSetting, settableOptions } from './config-apply.ts'
import { confidentialNames, secretNames, variableOf } from './config-names.ts'
import { Sources } from './config-sources.ts'
import type { Context } from './context.ts'
import { optionsOf } from './node/settings-words.ts'
import type { Column } from './output.ts'

/** One setting of one command, as it is shown. */
interface Shown {
  setting: string
  /** The commands that it holds for; empty for all. */
  commands: string[]
  value: string | string[] | boolean | undefined
  source: 'option' | 'variable' | 'user file' | 'system file' | 'earlier up' | 'default'
  /** The variable, or the file with its line. */
  place?: string
}

const columns: Column<Shown>[] = [
  { title: 'setting', value: (s) => s.setting },
  { title: 'value', value: (s) => (Array.isArray(s.value) ? s.value.join(', ') : s.value === undefined ? '' : String(s.value)) },
  { title: 'for', value: (s) => (s.commands.length === 0 ? 'all commands' : s.commands.join(', ')) },
  { title: 'source', value: (s) => s.place ?? s.source },
]

export function register(program: Command, context: Context): void {
  const group = program.command('config').description('Settings that hold without being given each time.')
  const show = group
    .command('show')
    .description('Shows each setting in force and where it comes from. Secrets are not shown.')
    .option('--all', 'also what is not set, with the name of its variable')
    .addHelpText('after', details)
  context.action<{ all?: boolean }>(show, async (options) => {
    const rows = await settings(context, show)
    await context.list(
      columns,
      rows.filter(({ value }) => options.all === true || value !== undefined),
    )
    if (!context.isForPeople) return
    for (const { path, scope } of configFiles(context.world.env))
      context.say(`${scope} file: ${path}${existsSync(path) ? '' : ' (not there)'}`)
  })
}

async function settings(context: Context, show: Command): Promise<Shown[]> {
  const sources = (await context.sources()) ?? new Sources({}, [])
  const { readSettings } = await import('../mesh/settings.ts')
  const kept = optionsOf(await readSettings(context.dataDir))
  const rows: Shown[] = []
  const add = (row: Shown) => {
    const same = rows.find(
      (other) => other.setting === row.setting && other.place === row.place && String(other.value) === String(row.value),
    )
    // A list of its own: those of one command begin as the same.
    if (same === undefined) rows.push({ ...row, commands: [...row.commands] })
    else same.commands.push(...row.commands)
  }
  const program = await context.program()
  const given = show.optsWithGlobals<Record<string, unknown>>()
  for (const command of commandsOf(program)) {
    const path = pathOf(command)
    const commands = path === '' ? [] : [path]
    for (const option of settableOptions(command)) {
      const setting = option.long!.slice(2)
      const found = sources.find(path, setting)
      if (path === '' && show.getOptionValueSourceWithGlobals(option.attributeName()) === 'cli')
        add({ setting, commands, value: String(given[option.attributeName()]), source: 'option' })
      else if (found !== undefined) {
        const value = readSetting(option, found) as string | string[] | boolean
        add({ setting, commands, value: shownValue(setting, value), source: found.source, place: found.place })
      } else if (path === 'up' && kept[setting] !== undefined)
        add({ setting, commands, value: kept[setting], source: 'earlier up', place: 'options of an earlier up' })
      else add({ setting, commands, value: defaultOf(option), source: 'default', place: `default (${variableOf(setting)})` })
    }
  }
  for (const setting of secretNames)
    if (sources.hasSecret(setting)) add({ setting, commands: ['up'], value: '(secret)', source: 'variable', place: variableOf(setting) })
  return rows
}

function commandsOf(command: Command): Command[] {
  return [command, ...command.commands.flatMap(commandsOf)]
}

/** Of an option that may hold secrets only the names are shown. */
function shownValue(setting: string, value: string | string[] | boolean): string | string[] | boolean {
  if (!confidentialNames.includes(setting) || !Array.isArray(value)) return value
  return value.map((pair) => `${pair.split('=', 1)[0]}=(not shown)`)
}

function defaultOf(option: Option): string | undefined {
  const fixed: Record<string, string> = { data: dataDirectory(undefined, {}), output: 'table', port: String(defaultPort) }
  return fixed[option.attributeName()] ?? (typeof option.defaultValue === 'string' ? option.defaultValue : undefined)
}

const details = `
A setting is looked for, in this order, in: the option, the variable, the user's file, the system's file, the options of
an earlier "up" (for up), the default. A variable is named after the option: --lend-cpus is BATCHMESH_LEND_CPUS. A key
of a file is the option's name; a table holds for one command:

  output = "json"
  pool-id = "big"              # for every command that has it
  [up]
  port = 4800
  label = { room = "lab" }
  [run]
  retries = 2

Examples:
  batchmesh config show
  batchmesh config show --all          every setting that there is, with its variable`
