import { describe, expect, it } from 'vitest'
import { newState } from '../../coordinator/make-state.ts'
import { specKey } from '../../coordinator/rows.ts'
import { SpecCache } from '../../coordinator/spec-cache.ts'
import { createMemoryStore } from '../../coordinator/store.ts'
import { vetReports } from '../../coordinator/vet.ts'
import { encode } from '../../protocols/codec.ts'
import { taskSpecSchema } from '../../protocols/model/task.ts'
import { fixedChance, newMesh } from '../support/rows.ts'

const attempt = { jobUid: 1, task: 'a', epoch: 1 }
const reportOf = (...paths: string[]) => ({
  attempt,
  outcome: { exitCode: 0, startTime: 0, endTime: 1, outputs: paths.map((path) => ({ path, blob: `b${'a'.repeat(58)}`, size: 1 })) },
})

async function specsWith(patterns: string[]) {
  const store = createMemoryStore()
  const spec = taskSpecSchema.parse({ id: 'a', commandLine: 'true', outputFiles: patterns.map((filePattern) => ({ filePattern })) })
  await store.write(new Map([[specKey(1, 'a'), encode({ creationTime: 0, spec: encode(spec) })]]))
  return new SpecCache(store, newState('peer-of-the-coordinator', newMesh(), 0, fixedChance))
}

describe('outputs that a machine reports', () => {
  it('S1: are taken when the task names them', async () => {
    const report = reportOf('frame1.png', 'frame2.png')
    expect(await vetReports(await specsWith(['*.png']), [report])).toEqual([report])
  })

  it('S1: are refused, with the whole outcome, when it does not', async () => {
    const [vetted] = await vetReports(await specsWith(['*.png']), [reportOf('frame1.png', '.git/hooks/pre-commit')])
    expect(vetted!.outcome.outputs).toBeUndefined()
    expect(vetted!.outcome.failureInfo).toMatchObject({ category: 'servererror', code: 'FileUploadMiscError' })
    expect(vetted!.outcome.failureInfo!.message).toContain('.git/hooks/pre-commit')
  })
})
