/**
 * Task arrays: a template and the indexes it is filled with. An array is stored once; each of its tasks becomes real
 * when it is claimed, and is from then on a task like any other. Ids are the prefix and the index with leading zeros,
 * so that ids sort as their indexes do and an id tells its index.
 */
import { z } from 'zod'
import { type TaskSpec, taskFieldsSchema, taskKindProblem, taskSpecSchema } from './task.ts'

/** Tasks of one array: what one coordinator's memory and a user's patience are made for; larger ones are split. */
export const maxArrayTasks = 10_000_000
/** Ranges of one array: a list of single indexes longer than this is better added as tasks. */
export const maxArrayRanges = 100_000
/** Set for each task of an array, beside its place in the texts of the template. */
export const arrayIndexVariable = 'BATCHMESH_ARRAY_INDEX'

/** Every `step`-th whole number from `start` to `end`, both included if they are hit. */
export const indexRangeSchema = z
  .object({
    start: z.number().int().min(0).max(999_999_999_999_999),
    end: z.number().int().min(0).max(999_999_999_999_999),
    step: z.number().int().min(1).default(1),
  })
  .refine(({ start, end }) => start <= end, { error: 'a range of indexes must not end before it starts' })
export type IndexRange = z.output<typeof indexRangeSchema>

export const taskTemplateSchema = taskFieldsSchema.omit({ id: true })

export const taskArraySchema = z
  .object({
    /** Rising and without overlap. */
    indexes: z.array(indexRangeSchema).min(1).max(maxArrayRanges),
    /** In front of the index in the ids of the tasks. */
    idPrefix: z
      .string()
      .regex(/^[A-Za-z0-9_-]{0,48}$/, { error: 'idPrefix has at most 48 characters of A-Z, a-z, 0-9, _ and -' })
      .default(''),
    /** Digits of the index in the ids, at least those of the largest index; default 4 or as many as that has. */
    idDigits: z.number().int().min(1).max(15).optional(),
    /**
     * What the tasks are. In commandLine, displayName, the values of environmentSettings, filePath of resourceFiles and
     * filePattern of outputFiles `{index}` stands for the index, `{index:05}` for the index with leading zeros, and `{{`
     * for a brace; all other braces stand for themselves.
     */
    template: taskTemplateSchema,
  })
  .superRefine((array, context) => {
    const problem = arrayProblem(array)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
  })
export type TaskArrayInput = z.input<typeof taskArraySchema>
export type TaskArray = z.output<typeof taskArraySchema>

function arrayProblem(array: TaskArray): string | undefined {
  const { indexes, idDigits } = array
  // None at all is refused by the list's own rule, after which this one is asked all the same.
  if (indexes.length === 0) return undefined
  let count = 0
  for (const [at, range] of indexes.entries()) {
    if (at > 0 && range.start <= lastOf(indexes[at - 1]!)) return 'the ranges of an array must rise and not overlap'
    count += countOf(range)
  }
  if (count > maxArrayTasks) return `an array has at most ${maxArrayTasks} tasks; split it`
  const needed = String(lastOf(indexes.at(-1)!)).length
  if (idDigits !== undefined && idDigits < needed)
    return `idDigits ${idDigits} is too small for the largest index, which has ${needed} digits`
  return taskKindProblem(array.template) ?? filledProblem(array)
}

/** A text can be within its limits only as long as no index is put in: the last one makes the longest texts. */
function filledProblem(array: TaskArray): string | undefined {
  const index = lastOf(array.indexes.at(-1)!)
  const issue = taskSpecSchema.safeParse(arrayTask(array, index)).error?.issues[0]
  return issue && `with the index ${index} the template makes no task: ${issue.path.join('.')}: ${issue.message}`
}

export function countOf({ start, end, step }: IndexRange): number {
  return Math.floor((end - start) / step) + 1
}

/** The last number of a range that is hit. */
export function lastOf(range: IndexRange): number {
  return range.start + (countOf(range) - 1) * range.step
}

export function arrayCount({ indexes }: Pick<TaskArray, 'indexes'>): number {
  return indexes.reduce((sum, range) => sum + countOf(range), 0)
}

/** Digits of the index in the ids of an array. */
export function digitsOf({ idDigits, indexes }: Pick<TaskArray, 'idDigits' | 'indexes'>): number {
  return idDigits ?? Math.max(4, String(lastOf(indexes.at(-1)!)).length)
}

export function arrayTaskId(array: Pick<TaskArray, 'idPrefix' | 'idDigits' | 'indexes'>, index: number): string {
  return array.idPrefix + String(index).padStart(digitsOf(array), '0')
}

const placeholder = /\{\{|\{index(?::0?(\d{1,2}))?\}/g

/** A text of a template with one index. */
export function fillIndex(text: string, index: number): string {
  if (!text.includes('{')) return text
  return text.replaceAll(placeholder, (found, width: string | undefined) =>
    found === '{{' ? '{' : String(index).padStart(width === undefined ? 0 : Number(width), '0'),
  )
}

/** A text that {@link fillIndex} gives back as it is. */
export function escapeTemplate(text: string): string {
  return text.replaceAll('{', '{{')
}

/** The spec of one task of an array. */
export function arrayTask(array: TaskArray, index: number): TaskSpec {
  const { template } = array
  const { resourceFiles, outputFiles, displayName } = template
  const fill = (text: string) => fillIndex(text, index)
  const environmentSettings = (template.environmentSettings ?? []).map(({ name, value }) => ({ name, value: fill(value) }))
  environmentSettings.push({ name: arrayIndexVariable, value: String(index) })
  return {
    ...template,
    id: arrayTaskId(array, index),
    commandLine: fill(template.commandLine),
    environmentSettings,
    ...(displayName === undefined ? {} : { displayName: fill(displayName) }),
    ...(resourceFiles === undefined ? {} : { resourceFiles: resourceFiles.map((file) => ({ ...file, filePath: fill(file.filePath) })) }),
    ...(outputFiles === undefined ? {} : { outputFiles: outputFiles.map((file) => ({ ...file, filePattern: fill(file.filePattern) })) }),
  }
}
