/** What a run brings along, as blobs of the mesh. */
import type { ResourceFile } from '../../../protocols/model/task.ts'
import { Uploader } from '../../mesh/blobs.ts'
import type { Mesh } from '../../mesh/client.ts'
import type { StagedInput } from './inputs.ts'
import { each, type Positions } from './items.ts'
import type { RunPlan } from './plan.ts'
import type { Progress } from './progress.ts'

export class Uploads {
  readonly shared: readonly ResourceFile[]
  readonly #plan: RunPlan
  /** By source, since tasks may have a file in common. */
  readonly #blobs: ReadonlyMap<string, string>

  constructor(plan: RunPlan, shared: readonly ResourceFile[], blobs: ReadonlyMap<string, string>) {
    this.#plan = plan
    this.shared = shared
    this.#blobs = blobs
  }

  /** Resource files of the task at a position. */
  files(at: number): readonly ResourceFile[] {
    const own = this.#own(at).map(([filePath, blob]): ResourceFile => ({ filePath, blob }))
    return own.length === 0 ? this.shared : [...this.shared, ...own]
  }

  /** What of its own lies in the directory of the task before it starts, by path. */
  before(at: number): Map<string, string> {
    return new Map(this.#own(at))
  }

  #own(at: number): [path: string, blob: string][] {
    const files = this.#plan.items.files(at)
    return files.filter(({ isShared }) => !isShared).map(({ path, source }) => [path, this.#blobs.get(source)!])
  }
}

/** Uploads what the tasks at some positions need. */
export async function upload(mesh: Mesh, plan: RunPlan, positions: Positions, progress: Progress, signal: AbortSignal): Promise<Uploads> {
  const { shared } = plan.request
  const own = new Map<string, StagedInput>()
  // Tasks of an array have none.
  if (plan.items.hasInput)
    for (const at of each(positions)) for (const file of plan.items.files(at)) if (!file.isShared) own.set(file.source, file)
  const files = [...own.values()]
  const sum = (sizes: readonly { size: number }[]) => sizes.reduce((total, { size }) => total + size, 0)
  progress.upload(sum(files) + shared.reduce((total, one) => total + sum(one.files), 0))
  const uploader = new Uploader(mesh, { signal, onBytes: (count) => progress.uploaded(count) })
  const staged: ResourceFile[] = []
  for (const { path, source } of shared) staged.push({ filePath: path, blob: (await uploader.put(source)).id, shared: true })
  const blobs = await uploader.putFiles(files)
  progress.stop()
  return new Uploads(plan, staged, new Map(files.map(({ source }, at) => [source, blobs[at]!.id])))
}
