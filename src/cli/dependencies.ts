/** `--depends-on`: ids of tasks, and ranges of ids that are whole numbers. */
import { MeshError } from '../../protocols/errors.ts'

/** `prep,1-100` as Azure's dependsOn. A range is two numbers; anything else is an id. */
export function parseDependencies(text: string): { taskIds?: string[]; taskIdRanges?: { start: number; end: number }[] } {
  const taskIds: string[] = []
  const taskIdRanges: { start: number; end: number }[] = []
  for (const part of text.split(',').map((word) => word.trim())) {
    const range = /^(\d{1,15})-(\d{1,15})$/.exec(part)
    if (part === '')
      throw new MeshError('InvalidPropertyValue', `--depends-on ${text} names an empty id. Write ids and ranges with commas: prep,1-100`)
    if (range === null) taskIds.push(part)
    else if (Number(range[2]) < Number(range[1]))
      throw new MeshError('InvalidPropertyValue', `--depends-on ${text}: the range ${part} ends before it starts.`)
    else taskIdRanges.push({ start: Number(range[1]), end: Number(range[2]) })
  }
  return { ...(taskIds.length > 0 ? { taskIds } : {}), ...(taskIdRanges.length > 0 ? { taskIdRanges } : {}) }
}
