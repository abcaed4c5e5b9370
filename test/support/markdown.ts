/**
 * What the tests of the documentation read in a page: its fenced blocks, the commands in them, its links and headings.
 *
 * The conventions, which test/docs.test.ts keeps:
 *
 *     ```console            what is typed, after a prompt, and what is seen; `desktop$` is typed on the machine desktop
 *     ```sh                 only what is typed
 *     ```text               not typed anywhere: a pattern, a message
 *     <!-- file: a.ts -->   in front of a block: it is the file a.ts, beside which the next commands run
 *     <!-- not run: why --> in front of a block: the suite cannot run it
 *
 * In output that is shown, `…` stands for any text, and a line of its own for any lines.
 */

export interface Block {
  /** Line of its fence, from 1. */
  line: number
  language: string
  lines: string[]
  /** The file that it is the text of. */
  file: string | undefined
  /** Why it cannot be run here. */
  notRun: string | undefined
}

export interface ShownCommand {
  line: number
  /** The name before the `$`; none where a page knows only one machine. */
  machine: string | undefined
  text: string
  /** The output as shown; undefined where the block shows none. */
  output: string[] | undefined
}

/** Languages of blocks that are typed into a shell. */
export const typedLanguages: readonly string[] = ['console', 'sh']

const fence = /^( *)(```+|~~~+) *(\S*)(.*)$/
const remark = /^ *<!-- (file|not run): (.+?) -->$/
const prompt = /^([a-z][a-z0-9-]*)?\$ (.+)$/

/** Fenced blocks in order. Throws for a fence that is not closed. */
export function blocksOf(text: string): Block[] {
  const lines = text.split('\n')
  const blocks: Block[] = []
  for (let at = 0; at < lines.length; at += 1) {
    const [, indent, mark, language] = fence.exec(lines[at]!) ?? []
    if (indent === undefined || mark === undefined) continue
    const end = lines.findIndex((line, other) => other > at && line.trim() === mark)
    if (end < 0) throw new Error(`The block that opens in line ${at + 1} is not closed.`)
    const remarks = remarksBefore(lines, at)
    const inner = lines.slice(at + 1, end).map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line))
    blocks.push({ line: at + 1, language: language ?? '', lines: inner, file: remarks.get('file'), notRun: remarks.get('not run') })
    at = end
  }
  return blocks
}

function remarksBefore(lines: readonly string[], at: number): Map<string, string> {
  const found = new Map<string, string>()
  for (let above = at - 1; above >= 0; above -= 1) {
    const read = remark.exec(lines[above]!)
    if (read === null) break
    found.set(read[1]!, read[2]!)
  }
  return found
}

/** The commands of a block of one of {@link typedLanguages}. Throws where a `console` block does not begin with a prompt. */
export function commandsOf({ language, lines, line }: Block): ShownCommand[] {
  const commands: ShownCommand[] = []
  for (let at = 0; at < lines.length; at += 1) {
    const typed = language === 'sh' ? { machine: undefined, text: lines[at]! } : typedIn(lines[at]!)
    const last = commands.at(-1)
    if (typed === undefined) {
      if (last?.output === undefined) throw new Error(`Line ${line + 1 + at} is no command: a console block begins with a prompt.`)
      last.output.push(lines[at]!)
    } else if (language === 'console' || !/^\s*(#|$)/.test(typed.text)) {
      const from = line + 1 + at
      let { text } = typed
      while (isOpen(text)) {
        at += 1
        if (at >= lines.length) throw new Error(`The command in line ${from} does not end.`)
        text += `\n${lines[at]}`
      }
      commands.push({ line: from, machine: typed.machine, text, output: language === 'sh' ? undefined : [] })
    }
  }
  return commands
}

function typedIn(line: string): { machine: string | undefined; text: string } | undefined {
  const read = prompt.exec(line)
  return read === null ? undefined : { machine: read[1], text: read[2]! }
}

/** Whether the shell would go on reading: a backslash at the end, or a here-document without its last line. */
function isOpen(text: string): boolean {
  const word = /<<-?\s*(['"]?)(\w+)\1/.exec(text)?.[2]
  if (word !== undefined) return !text.split('\n').slice(1).includes(word)
  return text.endsWith('\\')
}

/** The text without its fenced blocks. */
export function proseOf(text: string): string {
  const lines = text.split('\n')
  for (const block of blocksOf(text)) {
    for (let at = block.line - 1; at < block.line + block.lines.length + 1; at += 1) lines[at] = ''
  }
  return lines.join('\n')
}

/** Targets of links and images in prose. */
export function linksOf(text: string): string[] {
  const prose = proseOf(text).replaceAll(/`[^`]*`/g, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!)
}

/** Names that links may have after `#`, as GitHub makes them of headings. */
export function anchorsOf(text: string): Set<string> {
  const headings = [...proseOf(text).matchAll(/^#+ +(.+?) *$/gm)].map(([, heading]) => heading!)
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .replaceAll(/[^\p{L}\p{N}\p{M}_ -]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}
