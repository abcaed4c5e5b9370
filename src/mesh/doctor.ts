/** What `batchmesh doctor` asks of the node's own parts, whether a node runs or not. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { startExecutor } from '../../node/executors/executor.ts'
import { defaultProcesses, type HeldLimits } from '../../node/executors/limits.ts'
import { measureMachine } from '../../node/resources.ts'
import { type IsolationTier, isolationTierSchema } from '../../protocols/model/machine.ts'
import type { Capacity } from '../../protocols/model/resources.ts'

export interface FoundTier {
  /** The best that works; undefined: none does. */
  tier: IsolationTier | undefined
  /** What the better ones for this user said. */
  missing: { tier: IsolationTier; why: string }[]
  /** What tasks can be held to; absent where there is no tier. */
  limits?: HeldLimits
}

/** Tries the isolation tiers as a node does at its start, and says why the better ones do not work. */
export async function findTier(): Promise<FoundTier> {
  const runDir = await mkdtemp(join(tmpdir(), 'batchmesh-doctor-'))
  const isRoot = process.getuid?.() === 0
  // As the executor chooses: namespaces under users of their own are root's, those of user namespaces everybody else's.
  const forThisUser = isolationTierSchema.options.filter((tier) => tier === 'process-group' || (tier === 'user+pidns') === isRoot)
  const missing: FoundTier['missing'] = []
  try {
    for (const tier of forThisUser) {
      try {
        const executor = await startExecutor({
          runDir,
          seed: runDir,
          hidePaths: [],
          tier,
          limits: { memoryMiB: 0, processes: defaultProcesses },
        })
        await executor.close()
        return { tier, missing, limits: executor.limits }
      } catch (error) {
        missing.push({ tier, why: (error as Error).message.replace(/^No way to run task processes works on this machine\. /, '') })
      }
    }
    return { tier: undefined, missing }
  } finally {
    await rm(runDir, { recursive: true, force: true })
  }
}

/** Cores, memory and GPUs as a node would lend them. */
export function whatThisMachineHas(): Promise<Capacity> {
  return measureMachine()
}
