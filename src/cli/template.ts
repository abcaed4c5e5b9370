/**
 * Templates of `batchmesh run`: a command line with placeholders, expanded once a task.
 *
 * Placeholders: {input} {base} {name} {ext} {dir} {index} {index:04}, and with a table the names of its columns, which
 * go before those of the same name. `{{` stands for `{`. `${x}` is the shell's and is left alone, as is any brace that
 * no identifier follows (`{}`, `{a,b}`, `{print $1}`).
 *
 * Templates that a shell runs are read by shell-template.ts, which says how each value is quoted.
 */
import { MeshError } from '../../protocols/errors.ts'
import { escapeTemplate } from '../../protocols/model/task-array.ts'

export const placeholderNames = ['input', 'base', 'name', 'ext', 'dir', 'index'] as const
export type PlaceholderName = (typeof placeholderNames)[number]

/** What one task puts in. `input` is the path as the task sees it. */
export interface TemplateValues {
  input?: string
  index: number
  /** The cell of a column of the table. */
  cell?: (column: string) => string
}

/** How a value is written: as it is, at the start of a word, elsewhere outside quotes, or inside quotes. */
export type Quoting = 'none' | 'word' | 'bare' | 'single' | 'double'
export interface Found {
  /** Name of a placeholder, or of a column. */
  name: string
  isColumn: boolean
  width: number
}
type Placeholder = Found & { quoting: Quoting }
export interface Template {
  pieces: readonly (string | Placeholder)[]
  /** The placeholders in it that are no columns. */
  names: ReadonlySet<PlaceholderName>
}
/** Names of the columns of a table. */
export type Columns = ReadonlySet<string>

const shape = /\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]*))?\}/y

/** The placeholder that begins at a brace, if one does. Throws InvalidPropertyValue for what looks like one and is none. */
export function matchPlaceholder(text: string, at: number, columns: Columns | undefined): (Found & { length: number }) | undefined {
  const column = columns === undefined ? '' : text.slice(at + 1, text.indexOf('}', at))
  if (columns?.has(column)) return { length: column.length + 2, name: column, isColumn: true, width: 0 }
  shape.lastIndex = at
  const found = shape.exec(text)
  if (found === null) return undefined
  const [all, name, format] = found
  if (columns?.has(name!)) throw usage(`${all} is not understood: a column takes no format. Write {${name}}.`)
  if (!(placeholderNames as readonly string[]).includes(name!)) {
    const known = placeholderNames.map((one) => `{${one}}`).join(' ') + shownColumns(columns)
    throw usage(`${all} is not a placeholder. There are ${known}; for the text itself write {${all}.`)
  }
  if (format !== undefined && (name !== 'index' || !/^0[1-9][0-9]?$/.test(format)))
    throw usage(`${all} is not understood: only {index} takes a format, such as {index:04} for four digits.`)
  return { length: all.length, name: name!, isColumn: false, width: format === undefined ? 0 : Number(format) }
}

function shownColumns(columns: Columns | undefined): string {
  if (columns === undefined) return ''
  const shown = [...columns].slice(0, 12).map((column) => `{${column}}`)
  return `, and the columns ${shown.join(' ')}${columns.size > shown.length ? ' …' : ''}`
}

function usage(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}

export class Builder {
  readonly pieces: (string | Placeholder)[] = []
  readonly names = new Set<PlaceholderName>()
  #literal = ''

  text(text: string): void {
    this.#literal += text
  }

  value({ name, isColumn, width }: Found, quoting: Quoting): void {
    if (this.#literal !== '') this.pieces.push(this.#literal)
    this.#literal = ''
    this.pieces.push({ name, isColumn, width, quoting })
    if (!isColumn) this.names.add(name as PlaceholderName)
  }

  done(): Template {
    if (this.#literal !== '') this.pieces.push(this.#literal)
    this.#literal = ''
    return { pieces: this.pieces, names: this.names }
  }
}

/** A template without a shell: one word of `run -- program words`, a path, or an output pattern. */
export function parseWordTemplate(text: string, columns?: Columns): Template {
  const built = new Builder()
  let at = 0
  while (at < text.length) {
    if (text.startsWith('{{', at) || text.startsWith('${', at)) {
      built.text(text[at] === '$' ? '${' : '{')
      at += 2
      continue
    }
    const found = text[at] === '{' ? matchPlaceholder(text, at, columns) : undefined
    if (found === undefined) built.text(text[at]!)
    else built.value(found, 'none')
    at += found?.length ?? 1
  }
  return built.done()
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

/** The same text as a template of a task array, which knows of placeholders only the index. */
export function arrayText(template: Template): string {
  let text = ''
  for (const piece of template.pieces) {
    if (typeof piece === 'string') text += escapeTemplate(piece)
    else text += quoted(piece.width === 0 ? '{index}' : `{index:0${piece.width}}`, piece.quoting)
  }
  return text
}

function textOf({ name, isColumn, width }: Placeholder, { input, index, cell }: TemplateValues): string {
  if (isColumn) return cell!(name)
  if (name === 'index') return String(index).padStart(width, '0')
  if (input === undefined) throw usage(`{${name}} needs --inputs.`)
  const slash = input.lastIndexOf('/')
  const base = input.slice(slash + 1)
  const dot = base.lastIndexOf('.')
  switch (name as PlaceholderName) {
    case 'input':
      return input
    case 'base':
      return base
    case 'name':
      return dot > 0 ? base.slice(0, dot) : base
    case 'ext':
      return dot > 0 ? base.slice(dot + 1) : ''
    default:
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
