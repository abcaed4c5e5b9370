/** A worker of another system: a program of ours around its library, in a process of its own, told over a channel what to expect. */
import type { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Place } from './place.ts'

export type WorkerMessage = { tasks: number } | { done: true }

export class WorkerProgram {
  readonly #child: ReturnType<typeof fork>

  private constructor(child: ReturnType<typeof fork>) {
    this.#child = child
  }

  /** Starts `programs/NAME.ts` with these arguments; ready when it says so. */
  static async start(place: Place, name: string, args: readonly string[]): Promise<WorkerProgram> {
    const path = fileURLToPath(new URL(`./programs/${name}.ts`, import.meta.url))
    const child = await place.server(name, [process.execPath, path, ...args], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const worker = new WorkerProgram(child as ReturnType<typeof fork>)
    await worker.#heard()
    return worker
  }

  /** Resolves when so many more tasks have ended. */
  async ended(tasks: number): Promise<void> {
    this.#child.send({ tasks } satisfies WorkerMessage)
    await this.#heard()
  }

  async #heard(): Promise<void> {
    const died = once(this.#child, 'exit').then(([code]) => {
      throw new Error(`the worker ended with ${code}`)
    })
    died.catch(() => undefined)
    await Promise.race([once(this.#child, 'message'), died])
  }
}
