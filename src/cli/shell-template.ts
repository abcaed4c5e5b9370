/**
 * Templates that `sh -c` runs. A value becomes part of one word whatever it holds: the text is read as a POSIX shell
 * reads it, and each value is quoted for the place where it stands. Places where no quoting is safe (backquotes, `${…}`,
 * here-documents, arithmetic except for {index}) are refused.
 */
import { MeshError } from '../../protocols/errors.ts'
import { Builder, type Columns, matchPlaceholder, type Quoting, type Template } from './template.ts'

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
  readonly #columns: Columns | undefined
  readonly #stack: Context[] = [{ kind: 'bare', depth: 0 }]
  #at = 0
  #wordStart = true
  #hereDocument = false
  /** Set where the quoting cannot be followed any more; placeholders behind it are refused. */
  #lost: string | undefined

  constructor(text: string, columns: Columns | undefined) {
    this.#text = text
    this.#columns = columns
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
    const found = matchPlaceholder(text, this.#at, this.#columns)
    if (found === undefined) return false
    const shown = text.slice(this.#at, this.#at + found.length)
    const blocking = this.#stack.find(({ kind }) => kind === 'parameter' || kind === 'backquote') ?? context
    const isNumber = context.kind === 'arithmetic' && found.name === 'index' && !found.isColumn && found.width === 0
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
export function parseShellTemplate(text: string, columns?: Columns): Template {
  return new ShellReader(text, columns).read()
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
