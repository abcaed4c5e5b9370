/** What `mesh.run` takes. */
import type { TaskOptions } from '../own-job.ts'

/** A file that is in the mesh already. */
export interface BlobInput {
  /** Its id. */
  blob: string
  /** Its name in the task's directory; default the id. */
  path?: string
}

/** What to run, on what, and what to keep. */
export interface RunOptions extends TaskOptions {
  /**
   * One string for `sh -c`, or a program and its arguments, which no shell sees. `{input}`, `{base}`, `{name}`, `{ext}`,
   * `{dir}`, `{index}` and `{index:04}` stand for what they say of the task's input; `{{` is a brace. In a string each
   * value is quoted for where it stands.
   */
  command: string | readonly string[]
  /** Files, one task each: paths, patterns such as `frames/*.pov`, and blobs. A file named twice is taken once. */
  inputs?: string | Iterable<string | BlobInput>
  /** Numbers instead, one task each: how many (from 0), `'0-999:2'`, or the numbers. With neither there is one task. */
  array?: number | string | Iterable<number>
  /** Files and directories that every task needs: staged once a machine, read-only. */
  with?: string | readonly string[]
  /** Patterns of the files to keep of what a task makes, relative to its directory, with placeholders. */
  outputs?: string | readonly string[]
  /** What paths are relative to; default the current directory. */
  cwd?: string
  /** How long the ended job and its outputs stay in the mesh, in milliseconds; default 7 days, with `jobId` for ever. */
  retentionMs?: number
}
