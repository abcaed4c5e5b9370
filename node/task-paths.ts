/** Where the parts of a task's directory lie (Azure Batch: files and directories of a node). The child of thread tasks needs it too. */
import { join } from 'node:path'
import type { TaskPaths } from './ports.ts'

export function pathsIn(taskDir: string): TaskPaths {
  return { taskDir, wd: join(taskDir, 'wd'), stdout: join(taskDir, 'stdout.txt'), stderr: join(taskDir, 'stderr.txt') }
}
