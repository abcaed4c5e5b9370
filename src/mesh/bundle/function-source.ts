/**
 * A function as a module of its own. Its source text is all that travels, so whatever it takes from around it is found
 * here and named. Names are resolved by esbuild: it replaces exactly those that a program does not declare itself.
 */
import { createContext, runInContext } from 'node:vm'
import { transform } from 'esbuild'
import { MeshError } from '../../../protocols/errors.ts'

/** Names that Node.js adds to those of the language (its documentation, "Global objects"). */
const globalsOfNode =
  'AbortController AbortSignal Blob Buffer ByteLengthQueuingStrategy BroadcastChannel CloseEvent CompressionStream CountQueuingStrategy Crypto CryptoKey CustomEvent DOMException DecompressionStream Event EventSource EventTarget File FormData Headers MessageChannel MessageEvent MessagePort Navigator Performance PerformanceEntry PerformanceMark PerformanceMeasure PerformanceObserver PerformanceObserverEntryList PerformanceResourceTiming ReadableByteStreamController ReadableStream ReadableStreamBYOBReader ReadableStreamBYOBRequest ReadableStreamDefaultController ReadableStreamDefaultReader Request Response Storage SubtleCrypto TextDecoder TextDecoderStream TextEncoder TextEncoderStream TransformStream TransformStreamDefaultController URL URLPattern URLSearchParams WebAssembly WebSocket WritableStream WritableStreamDefaultController WritableStreamDefaultWriter atob btoa clearImmediate clearInterval clearTimeout console crypto fetch global navigator performance process queueMicrotask setImmediate setInterval setTimeout structuredClone'

const reserved = new Set(
  'await break case catch class const continue debugger default delete do else enum export extends false finally for function if implements import in instanceof interface let new null package private protected public return static super switch this throw true try typeof var void while with yield'.split(
    ' ',
  ),
)

/** What esbuild and tsx put into a function's text, to keep names. */
const keepsNames = '__name'
/** What Vite and Vitest write for `import`. */
const viteImport = '__vite_ssr_dynamic_import__('

let known: ReadonlySet<string> | undefined

function globals(): ReadonlySet<string> {
  // A fresh context has the names of the language alone, whatever this program has added to its own.
  const language = runInContext('Object.getOwnPropertyNames(globalThis)', createContext()) as string[]
  known ??= new Set([...language, ...globalsOfNode.split(' ')])
  return known
}

/** The text of a module whose default export is the function. Rejects with InvalidPropertyValue, naming what stands in the way. */
export async function functionSource(work: (...args: never[]) => unknown): Promise<{ contents: string; name: string }> {
  if (typeof work !== 'function') throw refusal(`A function is needed, not ${work === null ? 'null' : typeof work}.`)
  const text = Function.prototype.toString.call(work).replaceAll(viteImport, 'import(')
  const shown = work.name === '' ? 'The function' : `The function ${work.name}`
  if (/\{\s*\[native code\]\s*\}\s*$/.test(text)) {
    const what = work.name.startsWith('bound ') ? 'is bound (by .bind)' : 'is built in'
    throw refusal(`${shown} ${what} and has no source text to send. Write a function that calls it: (input) => …`)
  }
  if (/^class\b/.test(text)) throw refusal(`${shown} is a class. Write a function that makes one: (input) => new …`)
  if (!(await isExpression(text)))
    throw refusal(
      `${shown} is a method, which its source text alone does not make a function. Write one that stands for itself: (input) => …`,
    )
  if (/^(?:Async)?GeneratorFunction$/.test(work.constructor.name))
    throw refusal(`${shown} is a generator; a task gives one value back. Return an array, or make more inputs.`)

  const free = await freeNames(text, shown)
  const own = work.name
  const missing = [...free].filter((name) => name !== own && name !== keepsNames && !globals().has(name))
  if (missing.length > 0) {
    const names = listed(missing.map((name) => `"${name}"`))
    throw refusal(
      `${shown} uses ${names}, which ${missing.length === 1 ? 'is' : 'are'} defined outside of it. Only its own source text is sent. Pass what it needs as a part of each input, import it inside with await import(…), or put the function into a module of its own and use remoteModule().`,
    )
  }
  const name = /^[A-Za-z_$][\w$]*$/.test(own) && !reserved.has(own) ? own : 'work'
  const prelude = free.has(keepsNames) ? `const ${keepsNames} = (value) => value;` : ''
  return { name, contents: `${prelude}const ${name} = ${text};\nexport default ${name};\n` }
}

async function isExpression(text: string): Promise<boolean> {
  return transform(`(${text})`, { loader: 'js', logLevel: 'silent' }).then(
    () => true,
    () => false,
  )
}

/** Names that a function's text uses and does not declare. A name that it asks for with `typeof` is one that it can do without. */
async function freeNames(text: string, shown: string): Promise<Set<string>> {
  const words = new Set(text.match(/[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*/gu))
  let mark = '__free'
  while (text.includes(mark)) mark += '_'
  const names = [...words].filter((word) => !reserved.has(word) && word !== 'undefined')
  const define = Object.fromEntries(names.map((name, at) => [name, `${mark}${at}__`]))
  const options = { loader: 'js', format: 'esm', target: 'esnext', logLevel: 'silent', legalComments: 'none' } as const
  const { code } = await transform(`export default ${text}`, { ...options, define: { ...define, this: `${mark}this__` } })
  if (code.includes(`${mark}this__`) || (await hasOwnThis(text, mark)))
    throw refusal(`${shown} uses this, which it does not have on another machine. Pass what it needs as a part of each input.`)
  const free = new Set<string>()
  const guarded = new Set<string>()
  for (const [, guard, at] of code.matchAll(new RegExp(`(typeof )?${mark}(\\d+)__`, 'g')))
    (guard === undefined ? free : guarded).add(names[Number(at)]!)
  return free.difference(guarded)
}

/** Whether a function that is no arrow uses its own `this`: read as an arrow function, it would be that of the module. */
async function hasOwnThis(text: string, mark: string): Promise<boolean> {
  const head = /^(async\b\s*)?function\b/.exec(text)
  if (head === null || !/\bthis\b/.test(text)) return false
  const { code } = await transform(`(${text})`, { loader: 'js', logLevel: 'silent', legalComments: 'none' })
  const from = code.indexOf('(', code.indexOf('function'))
  for (let at = code.indexOf(') {', from); at !== -1; at = code.indexOf(') {', at + 1)) {
    const arrow = `${head[1] === undefined ? '' : 'async '}${code.slice(from, at + 1)} => ${code.slice(at + 2)}`
    const read = await transform(`export default (${arrow.replace(/;\s*$/, '').replace(/\)$/, '')})`, {
      loader: 'js',
      format: 'esm',
      logLevel: 'silent',
      define: { this: `${mark}this__` },
    }).catch(() => undefined)
    if (read !== undefined) return read.code.includes(`${mark}this__`)
  }
  return false
}

function listed(items: readonly string[]): string {
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`
}

function refusal(message: string): MeshError {
  return new MeshError('InvalidPropertyValue', message)
}
