/**
 * `process.env` of a thread: the environment of the task whose function runs, made when it is first looked at, whatever
 * the one before did to it. A function that reads a path in its task's directory gets the directory with it.
 */
import { syncBuiltinESMExports } from 'node:module'
import os from 'node:os'

export interface Source {
  /** All of it, anew. */
  make(): Record<string, string>
  /** The task's directory, and how it is made. */
  taskDir: string
  place(): void
}

let source: Source | undefined
let environment: Record<string, string> | undefined

/** From now on it is this one's; without one it is empty. */
export function setEnvironment(of: Source | undefined): void {
  source = of
  environment = undefined
}

function whole(): Record<string, string> {
  environment ??= source?.make() ?? {}
  return environment
}

function read(name: string | symbol): string | undefined {
  const value = whole()[name as string]
  if (typeof value === 'string' && source !== undefined && value.startsWith(source.taskDir)) source.place()
  return value
}

function write(name: string | symbol, value: unknown): true {
  if (typeof name === 'symbol') throw new TypeError('Cannot convert a Symbol value to a string')
  whole()[name] = String(value)
  return true
}

/** Puts it in the place of the thread's own. */
export function replaceEnvironment(): void {
  process.env = new Proxy<NodeJS.ProcessEnv>(
    {},
    {
      get: (_, name) => read(name),
      has: (_, name) => name in whole(),
      ownKeys: () => Object.keys(whole()),
      getOwnPropertyDescriptor: (_, name) =>
        Object.hasOwn(whole(), name) ? { value: read(name), writable: true, enumerable: true, configurable: true } : undefined,
      set: (_, name, value) => write(name, value),
      defineProperty: (_, name, { value }) => write(name, value),
      deleteProperty: (_, name) => delete whole()[name as string],
    },
  )
  // These two look for what the thread was started with.
  os.tmpdir = () => process.env.TMPDIR ?? '/tmp'
  os.homedir = () => process.env.HOME ?? '/'
  syncBuiltinESMExports()
}
