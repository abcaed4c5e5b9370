/** Gives the options of a command what variables and configuration files say, where the command line says nothing. */
import type { Command, Option } from 'commander'
import { MeshError } from '../../protocols/errors.ts'
import { pathInFile } from '../config.ts'
import { collect } from './collect.ts'
import { settable } from './config-names.ts'
import type { Setting, Sources } from './config-sources.ts'

/** An option that was set from elsewhere than the command line. */
export interface Configured {
  option: Option
  setting: Setting
  value: unknown
}

/** `job create`; empty for the program itself. */
export function pathOf(command: Command): string {
  return command.parent === null ? '' : `${pathOf(command.parent)} ${command.name()}`.trim()
}

/** Sets what the command line left open; answers what was set, by the option's attribute. Throws InvalidPropertyValue. */
export function applySources(command: Command, sources: Sources): Map<string, Configured> {
  const configured = new Map<string, Configured>()
  for (let owner: Command | null = command; owner !== null; owner = owner.parent) {
    // A description in a file is whole: nothing from elsewhere is mixed into it.
    if (owner.getOptionValue('jsonFile') !== undefined) continue
    for (const option of settableOptions(owner)) {
      const attribute = option.attributeName()
      if (owner.getOptionValueSource(attribute) === 'cli') continue
      const setting = sources.find(pathOf(owner), nameOf(option))
      if (setting === undefined) continue
      const value = readSetting(option, setting)
      owner.setOptionValueWithSource(attribute, value, setting.source === 'variable' ? 'env' : 'config')
      configured.set(attribute, { option, setting, value })
    }
  }
  return configured
}

/** The options of a command that can be set; of a pair (--mdns, --no-mdns) the positive one. */
export function settableOptions(command: Command): Option[] {
  const names = settable[pathOf(command)] ?? []
  return command.options.filter((option) => names.includes(nameOf(option)) && !option.negate)
}

export function nameOf(option: Option): string {
  return option.long?.slice(2) ?? ''
}

export function isRepeatable(option: Option): boolean {
  return option.variadic || option.parseArg === collect
}

/** A value as the command line would have it: text, texts, or a flag. */
export function readSetting(option: Option, setting: Setting): unknown {
  if (option.isBoolean()) return flag(setting)
  const texts = textsOf(option, setting)
  if (isRepeatable(option)) return texts
  const [text = ''] = texts
  if (option.parseArg === undefined) return text
  try {
    return option.parseArg(text, undefined)
  } catch (error) {
    throw wrong(setting, `${(error as Error).message}`)
  }
}

const yes = new Set(['1', 'true', 'yes', 'on'])
const no = new Set(['0', 'false', 'no', 'off'])

function flag(setting: Setting): boolean {
  const { value } = setting
  if (typeof value === 'boolean') return value
  const word = setting.source === 'variable' ? String(value).toLowerCase() : ''
  if (!yes.has(word) && !no.has(word)) throw wrong(setting, 'it is true or false.')
  return yes.has(word)
}

function textsOf(option: Option, setting: Setting): string[] {
  const { value, source } = setting
  const isPairs = option.flags.includes('name=value')
  if (source === 'variable')
    return isRepeatable(option)
      ? String(value)
          .split(',')
          .map((text) => text.trim())
      : [String(value)]
  const one = (item: unknown): string => {
    if (typeof item === 'string') return nameOf(option) === 'data' ? pathInFile(item, setting.file ?? '') : item
    if (typeof item === 'number') return String(item)
    throw wrong(setting, isPairs ? 'it is a table of texts, or an array of "name=value".' : `it is ${kindOf(option)}.`)
  }
  if (Array.isArray(value) && isRepeatable(option)) return value.map(one)
  if (isPairs && typeof value === 'object' && value !== null && !Array.isArray(value))
    return Object.entries(value).map(([name, item]) => `${name}=${one(item)}`)
  return [one(value)]
}

function kindOf(option: Option): string {
  if (option.argChoices !== undefined) return `one of ${option.argChoices.join(', ')}`
  return isRepeatable(option) ? 'a text, or an array of texts' : 'a text or a number'
}

function wrong(setting: Setting, why: string): MeshError {
  const shown = typeof setting.value === 'string' ? setting.value : JSON.stringify(setting.value)
  return new MeshError('InvalidPropertyValue', `${setting.place} is ${shown}: ${why}`)
}
