import { execFileSync } from 'node:child_process'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MeshError } from '../../protocols/errors.ts'
import { splitCommandLine } from '../../protocols/model/command-line.ts'
import { arrayTask, type TaskArray, taskArraySchema } from '../../protocols/model/task-array.ts'
import { idRanges, parseArray } from '../../src/cli/array.ts'
import { ArrayItems, each } from '../../src/cli/run/items.ts'
import { RunPlan, type RunRequest } from '../../src/cli/run/plan.ts'
import { Lab } from './lab.ts'

let lab: Lab
beforeEach(() => {
  lab = new Lab()
})
afterEach(() => lab.close())

const sent = () => lab.mesh.asked.filter((name) => name.startsWith('addTask'))
const request = (command: string | string[], ranges: string, more: Partial<RunRequest> = {}): RunRequest => ({
  command,
  items: new ArrayItems(parseArray(ranges)),
  shared: [],
  outputs: [],
  reduceOutputs: [],
  env: [],
  ...more,
})

describe('indexes', () => {
  it.each([
    ['7', [[7, 7, 1]]],
    ['0-9', [[0, 9, 1]]],
    ['0-10:3', [[0, 9, 3]]],
    [
      '9,3,5',
      [
        [3, 5, 2],
        [9, 9, 1],
      ],
    ],
    ['5,1,3,2,4', [[1, 5, 1]]],
    [
      '10-19,0-9',
      [
        [0, 9, 1],
        [10, 19, 1],
      ],
    ],
    ['0-10:2,1-11:2', [[0, 11, 1]]],
    ['0-999999999:500000000', [[0, 500_000_000, 500_000_000]]],
  ])('%s are rising ranges without overlap', (text, expected) => {
    expect(parseArray(text).map(({ start, end, step }) => [start, end, step])).toEqual(expected)
  })

  it('of any list are those that were given', () => {
    const range = fc.tuple(fc.nat(40), fc.nat(20), fc.integer({ min: 1, max: 5 }))
    fc.assert(
      fc.property(fc.array(range, { minLength: 1, maxLength: 6 }), (ranges) => {
        const all = ranges.flatMap(([start, more, step]) => [...each([{ start, end: start + more, step }])])
        const text = ranges.map(([start, more, step]) => `${start}-${start + more}:${step}`).join(',')
        if (new Set(all).size < all.length) {
          expect(() => parseArray(text)).toThrow('twice')
          return
        }
        const items = new ArrayItems(parseArray(text))
        const sorted = all.sort((a, b) => a - b)
        expect(Array.from({ length: items.count }, (_, at) => items.values(at).index)).toEqual(sorted)
        for (let index = 0; index < 70; index += 1) expect(items.positionOf(index) ?? -1).toBe(sorted.indexOf(index))
        const template = { commandLine: 'true' }
        expect(taskArraySchema.safeParse({ indexes: items.ranges, template }).success).toBe(true)
        const ids = idRanges(items.ranges, 1000)!.flatMap(({ start, end }) => [...each([{ start, end, step: 1 }])])
        expect(ids).toEqual(sorted)
      }),
    )
  })

  it('a list of ids that is too long is none', () => {
    expect(idRanges(parseArray('0-100:2'), 10)).toBeUndefined()
    expect(idRanges(parseArray('0-100'), 10)).toEqual([{ start: 0, end: 100 }])
  })

  it('more than ten million are refused', () => {
    expect(() => parseArray('0-10000000')).toThrow('more than 10000000 indexes')
  })
})

describe('an array that is run', () => {
  it('is sent as one request, whatever its length', async () => {
    const ran = await lab.run(
      'run',
      'echo {index:02} $BATCHMESH_ARRAY_INDEX "{{x}"',
      '--array',
      '3-9:3,1',
      '--stdout',
      '--env',
      'V={index} {{',
    )
    expect(ran.stdout.split('\n').sort()).toEqual(['', '01 1 {x}', '03 3 {x}', '06 6 {x}', '09 9 {x}'])
    expect(sent()).toEqual(['addTaskArray'])
    const { spec } = [...lab.mesh.jobs.values()][0]!.tasks.get('0003')!
    expect(spec.environmentSettings).toEqual([
      { name: 'V', value: '3 {' },
      { name: 'BATCHMESH_ARRAY_INDEX', value: '3' },
    ])
  })

  it('is sent task by task to a coordinator that knows no arrays, and it says so', async () => {
    lab.mesh.knowsArrays = false
    const ran = await lab.run('run', 'echo {index}; exit $BATCHMESH_ARRAY_INDEX', '--array', '0-2', '--stdout')
    expect(ran.code).toBe(1)
    expect(ran.stderr).toMatch(/older version that takes no arrays: 3 tasks are sent one by one/)
    expect(ran.stderr).toMatch(/1 succeeded, 2 failed/)
  })

  it('of a million tasks costs neither time nor memory to plan', () => {
    const plan = new RunPlan(request('work {index:07}', '0-9999999', { outputs: ['{index}.out'], to: 'out', reduce: 'true' }))
    const arrays = [...plan.arrays(plan.all, [])]
    expect(arrays.map(({ indexes }) => indexes)).toEqual([[{ start: 0, end: 9_999_999, step: 1 }]])
    expect(plan.reduceSpec([], plan.all).dependsOn).toEqual({ taskIdRanges: [{ start: 0, end: 9_999_999 }] })
    expect(plan.positionOf('7654321')).toBe(7_654_321)
    expect(plan.positionOf('07654321')).toBeUndefined()
  })

  it('means the same to the mesh as to the command, whatever the command holds', () => {
    const pieces = fc.constantFrom('{index}', '{index:03}', '{{', "'", '"', ' ', '{', '}', 'a', '\\', '{{index}', '$x', '{ ', ';')
    fc.assert(
      fc.property(fc.array(pieces, { minLength: 1, maxLength: 8 }), fc.nat(2000), (texts, index) => {
        const whole = texts.join('')
        const filled = (text: string) =>
          text.replaceAll(/\{\{|\{index(:03)?\}/g, (found, width) =>
            found === '{{' ? '{' : String(index).padStart(width === undefined ? 0 : 3, '0'),
          )
        const read = (command: string | string[]) => {
          try {
            const plan = new RunPlan(request(command, String(index)))
            const [array] = plan.arrays(plan.all, []) as unknown as [TaskArray]
            return splitCommandLine(arrayTask(array, index).commandLine)
          } catch (error) {
            if (error instanceof MeshError) return undefined
            throw error
          }
        }
        expect(read(['x', whole]) ?? ['x', filled(whole)]).toEqual(['x', filled(whole)])
        // What a shell makes something else of is left out.
        const plain = whole.replaceAll(/[;$\\]/g, '')
        const words = read(`printf '%s|' ${plain}`)
        if (words === undefined) return
        const out = (script: string) => {
          try {
            return execFileSync('sh', ['-c', script], { encoding: 'utf8', stdio: 'pipe' })
          } catch {
            return 'refused'
          }
        }
        expect(out(words[2]!)).toBe(out(`printf '%s|' ${filled(plain)}`))
      }),
      { numRuns: 80 },
    )
  })
})

describe('task create --array', () => {
  const create = ['task', 'create', 'j', '--array', '0-8:4', '--command-line', "sh -c 'echo {index:03} > o{index}; cat in{index}'"]

  it('adds the whole array, with files and outputs by their number', async () => {
    lab.files({ 'f.txt': 'F' })
    await lab.run('job', 'create', 'j')
    const ran = await lab.run(...create, '--id-prefix', 't-', '--outputs', 'o{index}', '--resource-files', 'in{index}=f.txt')
    expect(ran).toMatchObject({ code: 0, stdout: '3 tasks, j/t-0000 to t-0008.\n' })
    await lab.run('job', 'wait', 'j', '-q', '--to', 'out')
    expect(lab.list('out')).toEqual(['o0', 'o4', 'o8'])
    expect(lab.read('out/o4')).toBe('004\n')
  })

  it.each([
    [['task', 'create', 'j/t', '--array', '1', '--command-line', 'x'], /name the job only/],
    [['task', 'create', 'j', '--id', 't', '--array', '1', '--command-line', 'x'], /name the job only/],
    [['task', 'create', 'j/t', '--id-prefix', 'x', '--command-line', 'x'], /--id-prefix belongs to --array/],
    [['task', 'create', 'j', '--array', '2-1', '--command-line', 'x'], /ends before it starts/],
    [['task', 'create', 'j', '--array', '1'], /--command-line/],
    [['task', 'create', 'j', '--array', '1', '--json-file', 'f'], /either --json-file or --array/],
  ])('%j is wrong usage', async (argv, message) => {
    expect(await lab.run(...argv)).toMatchObject({ code: 2, stderr: expect.stringMatching(message) })
  })

  it('says what to do where the coordinator is too old', async () => {
    lab.mesh.knowsArrays = false
    await lab.run('job', 'create', 'j')
    expect((await lab.run(...create)).stderr).toMatch(/older version that takes no task arrays\. Update it, or/)
  })
})
