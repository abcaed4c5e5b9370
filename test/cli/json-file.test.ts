import { describe, expect, it } from 'vitest'
import { durationMs, isoDurationMs } from '../../src/cli/format.ts'
import { checkTask, jobFromJson, poolFromJson, tasksFromJson } from '../../src/cli/json-file.ts'

describe('json files', () => {
  it('a pool written for Azure becomes a pool', () => {
    expect(
      poolFromJson({
        id: 'p',
        vmSize: 'standard_d2s_v3',
        virtualMachineConfiguration: { imageReference: { publisher: 'canonical' }, nodeAgentSKUId: 'batch.node.ubuntu 22.04' },
        targetDedicatedNodes: 3,
        taskSchedulingPolicy: { nodeFillType: 'pack' },
        resizeTimeout: 'PT15M',
        enableAutoScale: false,
      }),
    ).toMatchObject({
      id: 'p',
      vmSize: 'standard_d2s_v3',
      targetDedicatedNodes: 3,
      nodeFillType: 'pack',
      resizeTimeoutMs: 900_000,
      taskSlotsPerNode: 1,
    })
  })

  it('a job written for Azure becomes a job', () => {
    expect(
      jobFromJson({
        id: 'j',
        poolInfo: { poolId: 'p' },
        constraints: { maxWallClockTime: 'P1DT2H', maxTaskRetryCount: 2 },
        onTaskFailure: 'noaction',
      }),
    ).toMatchObject({ id: 'j', poolId: 'p', constraints: { maxWallClockTimeMs: 93_600_000, maxTaskRetryCount: 2 } })
  })

  const task = {
    id: 't',
    commandLine: 'prog',
    resourceFiles: [{ httpUrl: 'https://example.org/a', filePath: 'a', fileMode: '0755' }],
    outputFiles: [{ filePattern: '*.png', uploadOptions: { uploadCondition: 'tasksuccess' } }],
    environmentSettings: [{ name: 'A', value: '1' }],
    constraints: { maxWallClockTime: 'PT90S', retentionTime: 'P7D', maxTaskRetryCount: 1 },
    dependsOn: { taskIds: ['x'], taskIdRanges: [{ start: 1, end: 3 }] },
  }
  it('a task written for Azure becomes a task', () => {
    expect(checkTask(tasksFromJson(task)[0]!)).toEqual({
      ...task,
      outputFiles: [{ filePattern: '*.png', uploadCondition: 'tasksuccess' }],
      constraints: { maxWallClockTimeMs: 90_000, retentionTimeMs: 604_800_000, maxTaskRetryCount: 1 },
      requiredSlots: 1,
    })
  })

  it('tasks come alone, in an array, or in Azure’s collection', () => {
    for (const [value, count] of [
      [task, 1],
      [[task, task], 2],
      [{ value: [task, task, task] }, 3],
    ] as const)
      expect(tasksFromJson(value).length).toBe(count)
  })

  it('Batchmesh’s own shape is taken as it is', () => {
    expect(
      checkTask(tasksFromJson({ id: 't', commandLine: 'x', constraints: { maxWallClockTimeMs: 5 }, resources: { cores: 2 } })[0]!),
    ).toMatchObject({
      constraints: { maxWallClockTimeMs: 5 },
      resources: { cores: 2 },
    })
  })

  it.each([
    [() => tasksFromJson([{ id: 't', userIdentity: {} }]), '[0].userIdentity is not supported by Batchmesh. Leave it out.'],
    [
      () => tasksFromJson({ id: 't', resourceFiles: [{ storageContainerUrl: 'x' }] }),
      'resourceFiles[0].storageContainerUrl is not supported',
    ],
    [
      () => tasksFromJson({ id: 't', outputFiles: [{ filePattern: 'x', destination: {} }] }),
      'outputFiles[0].destination is not supported by Batchmesh: outputs are kept as blobs',
    ],
    [
      () => tasksFromJson({ id: 't', constraints: { maxWallClockTime: 'P1M' } }),
      'constraints.maxWallClockTime must be an ISO 8601 duration',
    ],
    [() => tasksFromJson({ id: 't', constraints: { maxWallClockTime: 'PT1S', maxWallClockTimeMs: 1 } }), 'is given twice'],
    [() => tasksFromJson('x'), 'must be an object'],
    [() => poolFromJson({ id: 'p', vmSize: 'x', startTask: {} }), 'startTask is not supported'],
    [() => poolFromJson({ id: 'p', vmSize: 'x', enableAutoScale: true }), 'enableAutoScale: Batchmesh supports only false'],
    [
      () => poolFromJson({ id: 'p', vmSize: 'x', virtualMachineConfiguration: { containerConfiguration: {} } }),
      'virtualMachineConfiguration.containerConfiguration is not supported',
    ],
    [() => jobFromJson({ id: 'a b' }), 'the job: id: the job id "a b" must be'],
    [() => checkTask({ id: 't', commandLine: '' }), 'task t: commandLine'],
  ])('refuses by name (%#)', (read, message) => {
    expect(read).toThrow(message)
  })
})

describe('durations', () => {
  it.each([
    ['PT15M', 900_000],
    ['P7D', 604_800_000],
    ['P1DT1H1M1.5S', 90_061_500],
    ['P2W', 1_209_600_000],
    ['PT', undefined],
    ['P', undefined],
    ['P1Y', undefined],
    ['15m', undefined],
  ])('%s in ISO 8601 is %s ms', (text, expected) => {
    expect(isoDurationMs(text)).toBe(expected)
  })

  it('options take both ways of writing', () => {
    expect([durationMs('15m', '--x'), durationMs('PT15M', '--x'), durationMs('1.5h', '--x'), durationMs('1d', '--x')]).toEqual([
      900_000, 900_000, 5_400_000, 86_400_000,
    ])
    for (const text of ['15', 'soon', '', '0s', '-5m']) expect(() => durationMs(text, '--x')).toThrow('is not a duration')
  })
})
