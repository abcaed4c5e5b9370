/**
 * Templates of `batchmesh run`: a command line with placeholders, expanded once a task.
 *
 * Placeholders: {input} {base} {name} {ext} {dir} {index} {index:04}. `{{` stands for `{`. `${x}` is the shell's and is
 * left alone, as is any brace that no identifier follows (`{}`, `{a,b}`, `{print $1}`).
 *
 * In a shell template a value becomes part of one word whatever it holds: the text is read as a POSIX shell reads it,
 * and each value is quoted for the place where it stands. Places where no quoting is safe (backquotes, `${…}`,
 * here-documents, arithmetic except for {index}) are refused.
 */
import { MeshError } from '../../protocols/errors.ts'

export const placeholderNames = ['input', 'base', 'name', 'ext', 'dir', 'index'] as const
export type PlaceholderName = (typeof placeholderNames)[number]

/** What one task puts in. `input` is the path as the task sees it. */
export interface TemplateValues {
  input?: string
  index: number
}

/** How a value is written: as it is, at the start of a word, elsewhere outside quotes, or inside quotes. */
type Quoting = 'none' | 'word' | 'bare' | 'single' | 'double'
interface Placeholder {
  name: PlaceholderName
  width: number
  quoting: Quoting
}
export interface Template {
  pieces: readonly (string | Placeholder)[]
  names: ReadonlySet<PlaceholderName>
}

const shape = /\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}/y

function matchPlaceholder(text: string, at: number): { length: number; name: PlaceholderName; width: number } | undefined {
  shape.lastIndex = at
  const found = shape.exec(text)
  if (found === null) return undefined
  const [all, name, format] = found
  if (!(placeholderNames as readonly string[]).includes(name!)) {
    throw usage(
      `${all} is not a placeholder. There are ${placeholderNames.map((known) => `{${known}}`).join(' ')}; for the text itself write {${all}.`,
    )
  }
  if (format !== undefined && (name !== 'index' || !/^0[1-9][0-9]?$/.test(format)))
    throw usage(`${all} is not understood: only {index} takes a format, such as {index:04} for four digits.`)
  return { length: all.length, name: name as PlaceholderName, width: format === undefined ? 0 : Number(format) }
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}

class Builder {
  readonly pieces: (string | Placeholder)[] = []
  readonly names = new Set<PlaceholderName>()
  #literal = ''

  text(text: string): void {
    this.#literal += text
  }

  value(found: { name: PlaceholderName; width: number }, quoting: Quoting): void {
    if (this.#literal !== '') this.pieces.push(this.#literal)
    this.#literal = ''
    this.pieces.push({ name: found.name, width: found.width, quoting })
    this.names.add(found.name)
  }

  done(): Template {
    if (this.#literal !== '') this.pieces.push(this.#literal)
    this.#literal = ''
    return { pieces: this.pieces, names: this.names }
  }
}

/** A template without a shell: one word of `run -- program words`, a path, or an output pattern. */
export function parseWordTemplate(text: string): Template {
  const built = new Builder()
  let at = 0
  while (at < text.length) {
    if (text.startsWith('{{', at) || text.startsWith('${', at)) {
      built.text(text[at] === '$' ? '${' : '{')
      at += 2
      continue
    }
    const found = text[at] === '{' ? matchPlaceholder(text, at) : undefined
    if (found === undefined) built.text(text[at]!)
    else built.value(found, 'none')
    at += found?.length ?? 1
  }
  return built.done()
}

interface Context {
  kind: 'bare' | 'single' | 'double' | 'command' | 'arithmetic' | 'parameter' | 'backquote'
  /** Open parentheses inside it. */
  depth: number
}

const named: Partial<Record<Context['kind'], string>> = {
  parameter: '${…}',
  backquote: 'backquotes (write $(…) instead)',
  arithmetic: '$((…)), except for a plain {index}',
}

/** Reads a shell command once, from left to right, with a stack of the quoting it is in. */
class ShellReader {
  readonly built = new Builder()
  readonly #text: string
  readonly #stack: Context[] = [{ kind: 'bare', depth: 0 }]
  #at = 0
  #wordStart = true
  #hereDocument = false
  /** Set where the quoting cannot be followed any more; placeholders behind it are refused. */
  #lost: string | undefined

  constructor(text: string) {
    this.#text = text
  }

  read(): Template {
    while (this.#at < this.#text.length) this.#step(this.#stack.at(-1)!)
    const template = this.built.done()
    const open = this.#stack.at(-1)!.kind
    if (open !== 'bare' && this.#lost === undefined && template.names.size > 0) {
      const what = open === 'single' ? "'" : open === 'double' ? '"' : open === 'command' ? '$(' : open === 'parameter' ? '${' : open
      throw usage(`The command has an open ${what} at its end: ${this.#text}`)
    }
    return template
  }

  #step(context: Context): void {
    const text = this.#text
    const c = text[this.#at]!
    const wordStart = this.#wordStart
    this.#wordStart = false
    if (c === '{' && this.#brace(context, wordStart)) return
    switch (context.kind) {
      case 'single':
        if (c === "'") this.#stack.pop()
        return this.#take(1)
      case 'backquote':
        if (c === '`') this.#stack.pop()
        return this.#take(c === '\\' ? 2 : 1)
      case 'double':
        if (c === '"') this.#stack.pop()
        else if (this.#expansion(c, context)) return
        // A backslash before a value would swallow the quote that follows it, so it is written as the two that mean one.
        if (c === '\\' && text[this.#at + 1] === '{') {
          this.built.text('\\')
          return this.#take(1)
        }
        return this.#take(c === '\\' && '$`"\\\n'.includes(text[this.#at + 1] ?? 'x') ? 2 : 1)
      case 'parameter':
        if (c === '}') this.#stack.pop()
        else if (this.#expansion(c, context)) return
        else if (c === '"' || (c === "'" && !this.#stack.some((outer) => outer.kind === 'double')))
          this.#push(c === '"' ? 'double' : 'single')
        return this.#take(c === '\\' ? 2 : 1)
      case 'arithmetic':
        if (this.#expansion(c, context)) return
        if (c === '(') context.depth += 1
        else if (c === ')' && context.depth > 0) context.depth -= 1
        else if (c === ')') {
          this.#stack.pop()
          return this.#take(2)
        }
        return this.#take(c === '\\' ? 2 : 1)
      case 'bare':
      case 'command':
        return this.#bare(c, context, wordStart)
    }
  }

  #bare(c: string, context: Context, wordStart: boolean): void {
    const text = this.#text
    if (c === '\\') return this.#take(2)
    if (c === "'") {
      this.#push('single')
      return this.#take(1)
    }
    if (c === '"') {
      this.#push('double')
      return this.#take(1)
    }
    if (c === '#' && wordStart) {
      const end = text.indexOf('\n', this.#at)
      return this.#take((end === -1 ? text.length : end) - this.#at)
    }
    if (c === '$' && text[this.#at + 1] === "'") this.#lost ??= "$'…', which shells read differently"
    if (this.#expansion(c, context)) return
    if (text.startsWith('<<<', this.#at)) return this.#take(3)
    if (text.startsWith('<<', this.#at)) {
      this.#hereDocument = true
      return this.#take(2)
    }
    if (c === '\n' && this.#hereDocument) this.#lost ??= 'a here-document'
    if (context.kind === 'command') {
      if (wordStart && /^case\s/.test(text.slice(this.#at, this.#at + 5))) this.#lost ??= 'case inside $(…)'
      if (c === '(') context.depth += 1
      else if (c === ')' && context.depth > 0) context.depth -= 1
      else if (c === ')') this.#stack.pop()
    }
    this.#wordStart = ' \t\n;&|()'.includes(c)
    this.#take(1)
  }

  /** `$(…)`, `$((…))`, `${…}`, backquotes and `$$`, which mean the same in and outside double quotes. */
  #expansion(c: string, context: Context): boolean {
    const rest = this.#text.slice(this.#at, this.#at + 3)
    if (rest === '$((') this.#push('arithmetic')
    else if (rest.startsWith('$(')) this.#push('command')
    else if (rest.startsWith('${')) this.#push('parameter')
    else if (c === '`' && context.kind !== 'backquote') this.#push('backquote')
    else if (!rest.startsWith('$$')) return false
    this.#take(rest === '$((' ? 3 : c === '`' ? 1 : 2)
    this.#wordStart = rest.startsWith('$(')
    return true
  }

  #brace(context: Context, wordStart: boolean): boolean {
    const text = this.#text
    if (text.startsWith('{{', this.#at)) {
      this.built.text('{')
      this.#at += 2
      return true
    }
    if (text[this.#at - 1] === '$' && context.kind === 'single') return false
    const found = matchPlaceholder(text, this.#at)
    if (found === undefined) return false
    const shown = text.slice(this.#at, this.#at + found.length)
    const blocking = this.#stack.find(({ kind }) => kind === 'parameter' || kind === 'backquote') ?? context
    const isNumber = context.kind === 'arithmetic' && found.name === 'index' && found.width === 0
    const problem = this.#lost ?? (isNumber && blocking === context ? undefined : named[blocking.kind])
    if (problem !== undefined) throw usage(`${shown} cannot be put safely into ${problem}. Set a variable first: x=${shown}; … "$x"`)
    const quoting: Quoting = isNumber
      ? 'none'
      : context.kind === 'single' || context.kind === 'double'
        ? context.kind
        : wordStart
          ? 'word'
          : 'bare'
    this.built.value(found, quoting)
    this.#at += found.length
    return true
  }

  #push(kind: Context['kind']): void {
    this.#stack.push({ kind, depth: 0 })
  }

  #take(count: number): void {
    this.built.text(this.#text.slice(this.#at, this.#at + count))
    this.#at += count
  }
}

/** A template that `sh -c` will run: values are quoted for where they stand. Throws InvalidPropertyValue. */
export function parseShellTemplate(text: string): Template {
  return new ShellReader(text).read()
}

/** The template with one task's values. `{input}` and its parts must not be asked of values without an input. */
export function expand(template: Template, values: TemplateValues): string {
  let text = ''
  for (const piece of template.pieces) {
    text += typeof piece === 'string' ? piece : quoted(textOf(piece, values), piece.quoting)
  }
  return text
}

/** Like {@link expand}, for a pattern: what a value holds is matched literally. */
export function expandPattern(template: Template, values: TemplateValues): string {
  let text = ''
  for (const piece of template.pieces) text += typeof piece === 'string' ? piece : textOf(piece, values).replaceAll(/[*?[]/g, '[$&]')
  return text
}

function textOf({ name, width }: Placeholder, { input, index }: TemplateValues): string {
  if (name === 'index') return String(index).padStart(width, '0')
  if (input === undefined) throw usage(`{${name}} needs --inputs.`)
  const slash = input.lastIndexOf('/')
  const base = input.slice(slash + 1)
  const dot = base.lastIndexOf('.')
  switch (name) {
    case 'input':
      return input
    case 'base':
      return base
    case 'name':
      return dot > 0 ? base.slice(0, dot) : base
    case 'ext':
      return dot > 0 ? base.slice(dot + 1) : ''
    case 'dir':
      return slash === -1 ? '.' : input.slice(0, slash)
  }
}

/** Such a value means itself also without quotes: it has a dot or slash, so it is neither a reserved word nor a descriptor number. */
const plain = /^[A-Za-z0-9_][A-Za-z0-9_-]*[./][A-Za-z0-9_./-]*$/

function quoted(value: string, quoting: Quoting): string {
  const inner = value.replaceAll("'", `'\\''`)
  switch (quoting) {
    case 'none':
      return value
    case 'word':
      return plain.test(value) ? value : `'${inner}'`
    case 'bare':
      return `'${inner}'`
    case 'single':
      return inner
    case 'double':
      return `"'${inner}'"`
  }
}
