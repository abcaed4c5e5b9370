/** What a function threw, in words that mean something elsewhere: its own lines, and no path of the machine where it ran. */
import { pathToFileURL } from 'node:url'
import type { Thrown } from './messages.ts'

/** Bounds of protocols/model/thread-task.ts. */
const maxNameChars = 255
const maxMessageChars = 4096
const maxStackChars = 16_384

/** `file`: where the module lies here; its name stands in its place. */
export function thrownOf(error: unknown, module: string, file: string): Thrown {
  const url = pathToFileURL(file).href
  const hidden = (text: string) => text.replaceAll(url, module).replaceAll(file, module)
  if (!(error instanceof Error) && !isErrorLike(error)) {
    return { name: 'Thrown', message: hidden(textOf(error)).slice(0, maxMessageChars) }
  }
  const name = textOf(error.name || 'Error').slice(0, maxNameChars)
  const message = hidden(textOf(error.message)).slice(0, maxMessageChars)
  const stack = typeof error.stack === 'string' ? ownLines(error.stack, hidden) : undefined
  return stack === undefined ? { name, message } : { name, message, stack: stack.slice(0, maxStackChars) }
}

/** What had happened to another member of the gang, where an operation of its group says that of itself (groups/group-error.ts). */
export function blameOf(error: unknown): 'loss' | 'failure' | undefined {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined
  return code === 'MemberLost' ? 'loss' : code === 'Broken' ? 'failure' : undefined
}

/** An error of another realm, or one that came from another thread. */
function isErrorLike(value: unknown): value is Error {
  return typeof value === 'object' && value !== null && 'message' in value && 'stack' in value && typeof value.message === 'string'
}

function textOf(value: unknown): string {
  try {
    return typeof value === 'string' ? value : String(value)
  } catch {
    return 'something that cannot be shown'
  }
}

/** Without the lines of Node and of the program that called the function: they name places of the machine, and tell nothing. */
function ownLines(stack: string, hidden: (text: string) => string): string {
  return stack
    .split('\n')
    .filter((line) => !/^\s+at /.test(line) || !/\bnode:|\/piscina\/|\/executors\/threads\//.test(line))
    .map(hidden)
    .join('\n')
}
