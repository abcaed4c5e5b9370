/** What a shell may put in the place of a word: commands, options, choices, and names of the mesh if a node answers soon. */
import type { Argument, Command, Option } from 'commander'
import { dataDirectory } from '../config.ts'
import type { Context } from './context.ts'
import { visible } from './output.ts'

/** Nobody waits longer for a Tab; a node of this machine answers in a few milliseconds. */
const waitMs = 700
/** More do not help anybody who has typed so little. */
const maxNames = 200
const maxAbout = 60

interface Candidate {
  value: string
  about?: string | undefined
}
/** `nospace`: the word goes on after the candidate. `files`: the shell's own completion of paths. */
interface Offer {
  mode: 'words' | 'nospace' | 'files'
  candidates: Candidate[]
}

const files: Offer = { mode: 'files', candidates: [] }
const nothing: Offer = { mode: 'words', candidates: [] }
const words = (candidates: Candidate[]): Offer => ({ mode: 'words', candidates })

/** Answers `__complete INDEX WORD…` of the scripts; says nothing of what goes wrong. */
export async function complete(context: Context, argv: readonly string[]): Promise<number> {
  const index = Number(argv[0])
  const typed = argv.slice(1)
  const offer = Number.isInteger(index) && index >= 0 ? await offerFor(context, typed.slice(0, index), typed[index] ?? '') : nothing
  const lines = offer.candidates.map(({ value, about }) => `${value}${about === undefined ? '' : `\t${shortened(about)}`}`)
  await context.world.stdout.write(`${[offer.mode, ...lines].join('\n')}\n`)
  return 0
}

function shortened(text: string): string {
  const line = visible(text)
  return line.length > maxAbout ? `${line.slice(0, maxAbout - 1)}…` : line
}

async function offerFor(context: Context, typedBefore: readonly string[], typedWord: string): Promise<Offer> {
  // bash makes `--output=js` three words; other shells one.
  const before = typedBefore.filter((word, at) => word !== '=' || !isLong(typedBefore[at - 1]))
  let word = typedWord === '=' ? '' : typedWord
  const joined = /^(--[\w-]+)=(.*)$/s.exec(word)
  if (joined !== null) {
    before.push(joined[1]!)
    word = joined[2]!
  }
  if (before.includes('--')) return files
  const place = await placeOf(context, before)
  const offer =
    place.option === undefined || isSkipped(place.option, word)
      ? await offerAt(context, place, before, word)
      : await offerOption(context, place, before, word)
  if (offer.mode === 'files') return offer
  const fit = offer.candidates.filter(({ value }) => value.startsWith(word))
  return { ...offer, candidates: joined === null ? fit : fit.map(({ value, about }) => ({ value: `${joined[1]}=${value}`, about })) }
}

function isLong(word: string | undefined): boolean {
  return word?.startsWith('--') ?? false
}

/** Where on the line a word stands. */
interface Place {
  command: Command
  /** The word is a value of it. */
  option: Option | undefined
  /** Words of the command that are neither options nor their values. */
  given: string[]
}

/** Reads the words before: which command they name, and whether an option still wants its value. */
async function placeOf(context: Context, before: readonly string[]): Promise<Place> {
  let command = await context.program([])
  const given: string[] = []
  let option: Option | undefined
  for (const word of before) {
    if (option !== undefined && !isSkipped(option, word)) option = undefined
    else if (word.startsWith('-') && word !== '-') {
      const found = optionsOf(command).find(({ long, short }) => word === long || word === short)
      option = found !== undefined && !found.isBoolean() && !word.includes('=') ? found : undefined
    } else {
      const named = command.parent === null ? await context.program([word]) : command
      const sub = named.commands.find((candidate) => candidate.name() === word)
      if (sub === undefined) given.push(word)
      else command = sub
    }
  }
  return { command, option, given }
}

/** A value that may be left out is, where another option follows. */
function isSkipped(option: Option, word: string): boolean {
  return option.optional && word.startsWith('-')
}

/** Of the command and of all, as its help shows them. */
function optionsOf(command: Command): Option[] {
  const own = command.createHelp().visibleOptions(command)
  return command.parent === null
    ? own
    : [...own, ...optionsOf(command.parent).filter(({ long }) => !own.some((option) => option.long === long))]
}

async function offerAt(context: Context, { command, given }: Place, before: readonly string[], word: string): Promise<Offer> {
  if (word.startsWith('-')) {
    return words(optionsOf(command).map(({ long, short, description }) => ({ value: long ?? short ?? '', about: description })))
  }
  if (command.commands.length > 0) {
    if (given.length > 0) return nothing
    return words(
      command
        .createHelp()
        .visibleCommands(command)
        .map((sub) => ({ value: sub.name(), about: sub.description() })),
    )
  }
  const { registeredArguments } = command
  const argument = registeredArguments[given.length] ?? registeredArguments.findLast(({ variadic }) => variadic)
  return argument === undefined ? nothing : offerArgument(context, command, argument, before, word)
}

function offerArgument(
  context: Context,
  command: Command,
  argument: Argument,
  before: readonly string[],
  word: string,
): Promise<Offer> | Offer {
  if (argument.argChoices !== undefined) return words(argument.argChoices.map((value) => ({ value })))
  const name = argument.name()
  // A new one has no name yet; a new task has a job.
  const isNew = command.name() === 'create'
  if (isNew && name !== 'task') return nothing
  const kinds: Record<string, readonly Kind[]> = {
    job: ['job'],
    pool: ['pool'],
    machine: ['machine'],
    task: ['task'],
    what: ['job', 'pool', 'task'],
  }
  const wanted = kinds[name]
  return wanted === undefined ? files : offerNames(context, wanted, before, word)
}

async function offerOption(context: Context, { option }: Place, before: readonly string[], word: string): Promise<Offer> {
  if (option?.argChoices !== undefined) return words(option.argChoices.map((value) => ({ value })))
  const kinds: Record<string, Kind> = { '--job-id': 'job', '--pool-id': 'pool', '--partition': 'pool', '--machine': 'machine' }
  const kind = kinds[option?.long ?? '']
  if (kind !== undefined) return offerNames(context, [kind], before, word)
  return /<(?:file|dir|path|glob|name=source|token)\b/.test(option?.flags ?? '') ? files : nothing
}

type Kind = 'job' | 'pool' | 'machine' | 'task'
/** Names of things in the mesh; none when no node answers in time. */
async function offerNames(context: Context, kinds: readonly Kind[], before: readonly string[], word: string): Promise<Offer> {
  const at = before.indexOf('--data')
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<Offer>((resolve) => {
    timer = setTimeout(() => resolve(nothing), waitMs)
  })
  const found = async (): Promise<Offer> => {
    const set = (await context.sources())?.find('', 'data')?.value
    context.dataDir = dataDirectory(at < 0 ? (typeof set === 'string' ? set : undefined) : before[at + 1], context.world.env)
    const slash = word.indexOf('/')
    if (kinds.includes('task') && slash > 0) return words(await tasks(context, word.slice(0, slash), word.slice(slash + 1)))
    const lists = await Promise.all(kinds.map((kind) => namesOf(context, kind)))
    const isJobOfTask = kinds.length === 1 && kinds[0] === 'task'
    return {
      mode: isJobOfTask ? 'nospace' : 'words',
      candidates: lists
        .flat()
        .filter(({ value }) => value.startsWith(word))
        .slice(0, maxNames),
    }
  }
  try {
    return await Promise.race([found().catch(() => nothing), late])
  } finally {
    clearTimeout(timer)
  }
}

/** A name that a shell would take apart, or worse, is never offered. */
const isPlain = (name: string) => /^[\w.@%+-]+$/.test(name)

async function namesOf(context: Context, kind: Kind): Promise<Candidate[]> {
  const { control } = await context.mesh()
  if (kind === 'pool') {
    const { items } = await control.call('listPools', {})
    return items.map(({ id, vmSize }) => ({ value: id, about: vmSize }))
  }
  if (kind === 'machine') {
    const { items } = await control.call('listMachines', {})
    return items.map(({ name, peer, connected }) => ({
      value: isPlain(name) ? name : peer,
      about: `${connected ? 'connected' : 'away'}, ${peer}`,
    }))
  }
  const { items } = await control.call('listJobs', {})
  const ending = kind === 'task' ? '/' : ''
  // The newest jobs are those that one asks about.
  return items.toReversed().map(({ id, state, counts }) => ({
    value: `${id}${ending}`,
    about: `${state}, ${counts.completed} of ${counts.active + counts.running + counts.completed} complete`,
  }))
}

async function tasks(context: Context, jobId: string, start: string): Promise<Candidate[]> {
  const { control } = await context.mesh()
  const folded = start.toLowerCase()
  // The page begins with the first id that may fit: ids are ASCII, and come in the order of their lower case.
  const after = folded === '' ? undefined : `${folded.slice(0, -1)}${String.fromCharCode(folded.charCodeAt(folded.length - 1) - 1)}\uffff`
  const { items } = await control.call('listTasks', { jobId, after, limit: maxNames })
  return items.map(({ id, state, commandLine }) => ({ value: `${jobId}/${id}`, about: `${state}: ${commandLine}` }))
}
