/**
 * Code for thread tasks: one ES module that holds all that it imports, made by esbuild. Node's own modules stay
 * imports; packages are taken in from node_modules, types are erased. Only what a submission needs loads this.
 *
 * esbuild's process is shared with whatever else of this program uses esbuild, so it is not ended here; it keeps no
 * program alive.
 */
import { stat } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { BuildFailure, BuildOptions } from 'esbuild'
import { build } from 'esbuild'
import { MeshError } from '../../../protocols/errors.ts'
import { functionSource } from './function-source.ts'

/** A module that is ready to be stored as a blob. */
export interface Bundle {
  /** Its name in stack traces and lists. */
  name: string
  /** Which export is called. */
  export: string
  code: Uint8Array<ArrayBuffer>
  /** Its source map (ECMA-426), whose sources are absolute paths. */
  map: string
}

/** Packages in CommonJS ask for Node's own modules with `require`, which an ES module has not. */
const requireForPackages = `import { createRequire as __createRequire } from 'node:module'; var require = __createRequire(import.meta.url.startsWith('file:') ? import.meta.url : 'file:///'); `

/** The oldest Node that machines of a mesh have. */
const target = 'node22.12'

/**
 * Bundles the module at a path or file URL. A `.ts` that is not there is looked for as `.js`, where the compiler put it.
 * Rejects with InvalidPropertyValue: no such module, no such export, or what cannot be bundled, with its place.
 */
export async function bundleModule(module: string | URL, exported = 'default'): Promise<Bundle> {
  const path = await moduleFile(module)
  const name = `${basename(path, extname(path))}.mjs`
  const { code, map, exports } = await bundled({ entryPoints: [path] }, `The module ${path}`)
  if (!exports.includes(exported)) {
    const has = exports.length === 0 ? 'It exports nothing.' : `It exports: ${exports.join(', ')}.`
    throw new MeshError('InvalidPropertyValue', `The module ${path} has no export "${exported}". ${has}`)
  }
  return { name, export: exported, code, map }
}

/** Bundles a function by its source text. Rejects with InvalidPropertyValue for one that its text does not tell whole. */
export async function bundleFunction(work: (...args: never[]) => unknown): Promise<Bundle> {
  const { contents, name } = await functionSource(work)
  const stdin = { contents, resolveDir: process.cwd(), sourcefile: join(process.cwd(), `${name}.mjs`), loader: 'js' as const }
  const { code, map } = await bundled({ stdin }, `The function ${name}`)
  return { name: `${name}.mjs`, export: 'default', code, map }
}

async function bundled(
  from: Pick<BuildOptions, 'entryPoints' | 'stdin'>,
  what: string,
): Promise<{ code: Uint8Array<ArrayBuffer>; map: string; exports: string[] }> {
  const options = {
    ...from,
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'node',
    target,
    // A stack tells functions by their names.
    keepNames: true,
    sourcemap: 'external',
    sourcesContent: false,
    absWorkingDir: process.cwd(),
    outfile: join(process.cwd(), 'module.mjs'),
    logLevel: 'silent',
  } as const satisfies BuildOptions
  try {
    const { outputFiles, metafile } = await build(options)
    const [map, code] = [outputFiles.find(({ path }) => path.endsWith('.map'))!, outputFiles.find(({ path }) => path.endsWith('.mjs'))!]
    const { exports } = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint !== undefined)!
    // In front of the first line, so that the map holds for all others.
    const whole = code.text.includes('__require(') ? `${requireForPackages}${code.text}` : code.text
    return { code: new TextEncoder().encode(whole), map: withAbsolutePaths(map.text), exports }
  } catch (error) {
    const [first] = (error as Partial<BuildFailure>).errors ?? []
    if (first === undefined) throw error
    const place = first.location === null ? '' : ` (${first.location.file}:${first.location.line}:${first.location.column + 1})`
    const isOwnFile = from.stdin !== undefined && /^Could not resolve "\.{1,2}\//.test(first.text)
    const advice = isOwnFile
      ? '. A function is sent without the file that it stands in: put it into a module and use remoteModule().'
      : place
    throw new MeshError('InvalidPropertyValue', `${what} cannot be bundled: ${first.text}${advice}`, { cause: error })
  }
}

/** esbuild names sources relative to where its output would be, which is the current directory. */
function withAbsolutePaths(text: string): string {
  const map = JSON.parse(text) as { sources: string[] }
  return JSON.stringify({ ...map, sources: map.sources.map((source) => resolve(source)) })
}

async function moduleFile(module: string | URL): Promise<string> {
  const text = String(module)
  if (module instanceof URL || /^[a-z][a-z+.-]+:\/\//i.test(text)) {
    if (!text.startsWith('file:'))
      throw new MeshError(
        'InvalidPropertyValue',
        `A module is a path or a file URL, such as new URL('./work.ts', import.meta.url); ${text} is not.`,
      )
  }
  const path = text.startsWith('file:') ? fileURLToPath(text) : resolve(text)
  for (const candidate of [path, join(dirname(path), `${basename(path, '.ts')}.js`)]) {
    if ((await stat(candidate).catch(() => undefined))?.isFile()) return candidate
    if (!path.endsWith('.ts')) break
  }
  throw new MeshError('InvalidPropertyValue', `There is no module ${path}.`)
}
