/** Stack traces of bundled code, told in the user's own files. */
import { SourceMap } from 'node:module'
import type { Bundle } from '../../mesh/bundle/bundle.ts'

/** The stack with places in the bundle replaced by those that they come from, as far as the source map knows them. */
export function mappedStack(stack: string | undefined, { name, map }: Pick<Bundle, 'name' | 'map'>): string | undefined {
  if (stack === undefined || !stack.includes(name)) return stack
  const sources = new SourceMap(JSON.parse(map) as ConstructorParameters<typeof SourceMap>[0])
  const frame = new RegExp(`[^\\s()]*${name.replaceAll(/[^\w-]/g, '\\$&')}:(\\d+):(\\d+)`, 'g')
  return stack.replaceAll(frame, (place, line: string, column: string) => {
    const origin = sources.findOrigin(Number(line), Number(column))
    return 'fileName' in origin ? `${origin.fileName}:${origin.lineNumber}:${origin.columnNumber}` : place
  })
}
