import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { taskSpecSchema } from '../../protocols/model/task.ts'
import {
  arrayCount,
  arrayTask,
  arrayTaskId,
  escapeTemplate,
  fillIndex,
  type TaskArrayInput,
  taskArraySchema,
} from '../../protocols/model/task-array.ts'

const parameters = { seed: 20_261_121, numRuns: 500 }
const of = (input: Partial<TaskArrayInput>) =>
  taskArraySchema.parse({ indexes: [{ start: 0, end: 9 }], template: { commandLine: 'x' }, ...input })
const problemOf = (input: Partial<TaskArrayInput>) =>
  taskArraySchema.safeParse({ indexes: [{ start: 0, end: 9 }], template: { commandLine: 'x' }, ...input }).error?.issues[0]?.message

describe('a task array', () => {
  it('counts what its ranges hit', () => {
    expect(
      arrayCount(
        of({
          indexes: [
            { start: 0, end: 999, step: 2 },
            { start: 1000, end: 1000 },
          ],
        }),
      ),
    ).toBe(501)
  })

  it('names its tasks by prefix and index, as wide as the largest or four digits', () => {
    expect(arrayTaskId(of({ idPrefix: 'F' }), 7)).toBe('F0007')
    expect(arrayTaskId(of({ indexes: [{ start: 0, end: 123_456 }] }), 7)).toBe('000007')
    expect(arrayTaskId(of({ idDigits: 1 }), 7)).toBe('7')
  })

  it('puts the index wherever a text of the template names it, and into the environment', () => {
    const array = of({
      idPrefix: 'f',
      template: {
        commandLine: 'render {index} {index:03} {{index} {x}',
        displayName: 'frame {index}',
        environmentSettings: [{ name: 'N', value: '{index:4}' }],
        resourceFiles: [{ filePath: 'in/{index}', httpUrl: 'http://x/{index}' }],
        outputFiles: [{ filePattern: '{index:02}/*.png' }],
        requiredSlots: 2,
      },
    })
    expect(arrayTask(array, 5)).toEqual(
      taskSpecSchema.parse({
        id: 'f0005',
        commandLine: 'render 5 005 {index} {x}',
        displayName: 'frame 5',
        environmentSettings: [
          { name: 'N', value: '0005' },
          { name: 'BATCHMESH_ARRAY_INDEX', value: '5' },
        ],
        resourceFiles: [{ filePath: 'in/5', httpUrl: 'http://x/{index}' }],
        outputFiles: [{ filePattern: '05/*.png' }],
        requiredSlots: 2,
      }),
    )
  })

  it('leaves an escaped text as it was', () => {
    const braces = fc
      .array(fc.constantFrom('{', '}', '{{', '{index}', '{index:03}', 'a', ' '), { maxLength: 8 })
      .map((parts) => parts.join(''))
    fc.assert(
      fc.property(braces, fc.nat(1000), (text, index) => {
        expect(fillIndex(escapeTemplate(text), index)).toBe(text)
      }),
      parameters,
    )
  })

  it('is refused with a sentence where it makes no tasks', () => {
    expect(
      problemOf({
        indexes: [
          { start: 0, end: 5 },
          { start: 5, end: 6 },
        ],
      }),
    ).toBe('the ranges of an array must rise and not overlap')
    expect(problemOf({ indexes: [{ start: 6, end: 5 }] })).toBe('a range of indexes must not end before it starts')
    expect(problemOf({ indexes: [{ start: 0, end: 10_000_000 }] })).toBe('an array has at most 10000000 tasks; split it')
    expect(problemOf({ idDigits: 2, indexes: [{ start: 0, end: 100 }] })).toMatch(/^idDigits 2 is too small/)
    expect(problemOf({ template: { commandLine: '' } })).toBe('a task has a commandLine, or a thread')
    expect(problemOf({ idPrefix: 'a/b' })).toMatch(/^idPrefix has at most 48 characters/)
  })

  it('is refused where the index makes a text longer than it may be', () => {
    const commandLine = `{index:99}${'x'.repeat(130_950)}`
    expect(problemOf({ template: { commandLine } })).toBeUndefined()
    expect(problemOf({ template: { commandLine: `${commandLine}{index:99}` } })).toMatch(
      /^with the index 9 the template makes no task: commandLine: /,
    )
  })
})
