/** `--query`: JMESPath (jmespath.site, JEP-22 of the community edition) over what a command would print as JSON. */
import { compile, isRegistered, type JSONValue, search } from '@jmespath-community/jmespath'
import { MeshError } from '../../protocols/errors.ts'

export type { JSONValue }

export interface Query {
  /** What the expression finds in a view; null where it finds nothing. Throws InvalidPropertyValue for values of a wrong type. */
  apply(view: unknown): JSONValue
}

/** Reads an expression. Throws InvalidPropertyValue that says what is wrong with it. */
export function readQuery(expression: string): Query {
  const trouble = (error: unknown) => {
    const why = error instanceof Error ? error.message : String(error)
    return new MeshError(
      'InvalidPropertyValue',
      `--query ${expression}: ${why.replace(/\.?$/, '.')} It is a JMESPath expression, such as "[?state=='active'].id".`,
    )
  }
  let unknown: string | undefined
  try {
    unknown = functionsOf(compile(expression)).find((name) => !isRegistered(name))
  } catch (error) {
    throw trouble(error)
  }
  // Now, not once the command has done its work.
  if (unknown !== undefined) throw trouble(new Error(`there is no function ${unknown}`))
  return {
    apply(view) {
      try {
        return search(plain(view), expression)
      } catch (error) {
        throw trouble(error)
      }
    },
  }
}

/** As JSON would have it: without what is undefined. */
function plain(view: unknown): JSONValue {
  return view === undefined ? null : (JSON.parse(JSON.stringify(view)) as JSONValue)
}

/** Names of all functions that an expression calls, from its syntax tree. */
function functionsOf(node: unknown): string[] {
  if (Array.isArray(node)) return node.flatMap(functionsOf)
  if (typeof node !== 'object' || node === null) return []
  const { type, name } = node as { type?: unknown; name?: unknown }
  const own = type === 'Function' && typeof name === 'string' ? [name] : []
  return [...own, ...Object.values(node).flatMap(functionsOf)]
}
