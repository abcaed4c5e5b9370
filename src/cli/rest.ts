/**
 * Commands behind whose options stands a program with options of its own, as behind mpirun and sbatch: from the first word
 * that is none of the command's on, all are the program's. Elsewhere options may stand anywhere.
 */
import type { Command, Option } from 'commander'

/** Other spellings of a command's options. */
export type Spellings = Readonly<Record<string, string>>

export class RestCommands {
  readonly #spellings = new Map<Command, Spellings>()

  /** `spellings`: such as mpirun's `-np`, which is no option in the form that options have here. */
  add(command: Command, spellings: Spellings = {}): void {
    this.#spellings.set(command, spellings)
  }

  /** The words with `--` in front of the program; as they are where the command is of another kind. */
  separate(program: Command, argv: readonly string[]): string[] {
    const made: string[] = []
    let command = program
    for (let at = 0; at < argv.length; at += 1) {
      const spellings = this.#spellings.get(command)
      const word = spellings?.[argv[at]!] ?? argv[at]!
      if (word === '--') return [...made, ...argv.slice(at)]
      if (!word.startsWith('-') || word === '-') {
        if (spellings !== undefined) return [...made, '--', ...argv.slice(at)]
        command = command.commands.find((sub) => sub.name() === word) ?? command
        made.push(word)
        continue
      }
      const values = valuesOf(optionOf(command, word), word)
      const given = argv.slice(at + 1, at + 1 + values)
      at += given.length
      // Commander knows no option of two words: `--mca NAME VALUE` becomes `--mca NAME=VALUE`.
      made.push(word, ...(values === 2 ? [given.join('=')] : given))
    }
    return made
  }
}

function optionOf(command: Command, word: string): Option | undefined {
  for (let owner: Command | null = command; owner !== null; owner = owner.parent) {
    const found = owner.options.find(({ long, short }) => word === long || word === short)
    if (found !== undefined) return found
  }
  return undefined
}

/** How many words behind an option are its own. */
function valuesOf(option: Option | undefined, word: string): number {
  if (option === undefined || !option.required || word.includes('=')) return 0
  return option.flags.split('<').length - 1
}
