/**
 * Makes docs/reference from the docstrings of what src/index.ts exports.
 *
 * Most nouns are derived from schemas (`z.infer<typeof taskViewSchema>`), which says nothing to a reader. So typedoc
 * reads a copy of the sources in which each of those is written out, with the comments of its fields.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, relative } from 'node:path'
import ts from 'typescript'

const tool = import.meta.dirname
const root = dirname(dirname(tool))
const out = join(root, 'docs/reference')

const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path))
const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, root)
const entry = join(root, 'src/index.ts')
const program = ts.createProgram([entry], options)
const checker = program.getTypeChecker()
/** A shorter one is said sooner than its name. */
const shortestNamed = 30
const nouns = schemaNouns()

const copy = mkdtempSync(join(tmpdir(), 'batchmesh-reference-'))
try {
  for (const part of ['src', 'node', 'coordinator', 'protocols', 'package.json', 'tsconfig.json'])
    cpSync(join(root, part), join(copy, part), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  writeFileSync(join(copy, 'tsconfig.reference.json'), JSON.stringify({ extends: './tsconfig.json', include: ['src/index.ts'] }))
  for (const [path, edits] of writtenOut()) {
    let text = readFileSync(path, 'utf8')
    for (const { start, end, replacement } of edits.toSorted((a, b) => b.start - a.start))
      text = text.slice(0, start) + replacement + text.slice(end)
    writeFileSync(join(copy, relative(root, path)), text)
  }
  rmSync(out, { recursive: true, force: true })
  const typedoc = join(tool, 'node_modules/typedoc/bin/typedoc')
  const words = ['--options', join(tool, 'typedoc.json'), '--tsconfig', join(copy, 'tsconfig.reference.json'), '--out', out]
  const plugin = join(tool, 'node_modules/typedoc-plugin-markdown/dist/index.js')
  execFileSync(process.execPath, [typedoc, ...words, '--plugin', plugin, join(copy, 'src/index.ts')], { cwd: copy, stdio: 'inherit' })
} finally {
  rmSync(copy, { recursive: true, force: true })
}

/** The aliases of schemas among the exports, by file, with what they stand for. */
function writtenOut() {
  const files = new Map()
  for (const [name, { node, type }] of nouns) {
    const path = node.getSourceFile().fileName
    const edits = files.get(path) ?? []
    files.set(path, edits)
    edits.push({ start: node.getStart(), end: node.end, replacement: declarationOf(name, type, node) })
  }
  return files
}

function schemaNouns() {
  const found = new Map()
  for (const exported of checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(entry)))) {
    const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported
    const node = symbol.declarations?.find(ts.isTypeAliasDeclaration)
    if (node === undefined || !/^(?:z\.(?:infer|output|input)<|keyof typeof )/.test(node.type.getText())) continue
    const type = checker.getDeclaredTypeOfSymbol(symbol)
    found.set(symbol.name, { node, type, text: printed(type, node) })
  }
  return found
}

function declarationOf(name, type, node) {
  const isRecord = type.getProperties().length > 0 && !type.isUnion() && (type.flags & ts.TypeFlags.Object) !== 0
  if (!isRecord || checker.isArrayType(type)) return `export type ${name} = ${textOf(type, node, name)}`
  const fields = type.getProperties().map((field) => {
    const comment = ts.displayPartsToString(field.getDocumentationComment(checker))
    const isOptional = (field.flags & ts.SymbolFlags.Optional) !== 0
    const kind = checker.getTypeOfSymbolAtLocation(field, node)
    const shown = textOf(isOptional ? checker.getNonNullableType(kind) : kind, node, name)
    return `${comment === '' ? '' : `  /** ${comment} */\n`}  ${field.name}${isOptional ? '?' : ''}: ${shown}`
  })
  return `export interface ${name} {\n${fields.join('\n')}\n}`
}

/** A type as text, in which the nouns that have names have them. */
function textOf(type, node, own) {
  let text = printed(type, node)
  for (const [name, noun] of [...nouns].sort(([, a], [, b]) => b.text.length - a.text.length)) {
    if (name === own || noun.text.length < shortestNamed) continue
    const from = relative(dirname(node.getSourceFile().fileName), noun.node.getSourceFile().fileName)
    text = text.replaceAll(noun.text, `import('${from.startsWith('.') ? from : `./${from}`}').${name}`)
  }
  return text
}

function printed(type, node) {
  const { NoTruncation, InTypeAlias, UseAliasDefinedOutsideCurrentScope } = ts.TypeFormatFlags
  return checker.typeToString(type, node, NoTruncation | InTypeAlias | UseAliasDefinedOutsideCurrentScope)
}
