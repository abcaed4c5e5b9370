/** `batchmesh task subtasks`: the members of a multi-instance task. */
import type { Command } from 'commander'
import type { SubtaskView } from '../../protocols/model/subtask.ts'
import { failureText, type TaskView } from '../../protocols/model/task.ts'
import { type Context, integer, taskRef } from './context.ts'
import { showDuration, showTime } from './format.ts'
import type { Column } from './output.ts'

const columns: Column<SubtaskView>[] = [
  { title: 'id', value: (s) => s.id, right: true },
  { title: 'state', value: (s) => s.state },
  { title: 'result', value: (s) => s.result },
  { title: 'exit', value: (s) => s.exitCode, right: true },
  { title: 'machine', value: (s) => s.nodeInfo.machineName },
  { title: 'node', value: (s) => s.nodeInfo.nodeId },
  { title: 'started', value: (s) => showTime(s.startTime) },
  { title: 'took', value: ({ startTime, endTime }) => took(startTime, endTime) },
  {
    title: 'failure',
    value: ({ failureInfo }) => (failureInfo === undefined ? '' : failureText(failureInfo)),
  },
]

/** One that had not started when the others were ended took no time. */
function took(startTime: number | undefined, endTime: number | undefined): string {
  return startTime === undefined || endTime === undefined ? '' : showDuration(endTime - startTime)
}

export function registerSubtasks(group: Command, context: Context): void {
  const described = 'Lists the subtasks of a multi-instance task: its members but the primary, which `task show` tells of.'
  const subtasks = group.command('subtasks').description(described)
  // Azure's name for the same.
  const subtask = group.command('subtask').description('`task subtask list` is Azure’s name for `task subtasks`.')
  for (const command of [subtasks, subtask.command('list').description(described)]) {
    command
      .argument('[task]', 'JOB/TASK')
      .option('--job-id <id>')
      .option('--task-id <id>')
      .addHelpText('after', '\nExamples:\n  batchmesh task subtasks flow/solve\n  batchmesh task logs flow/solve --subtask 3')
    context.action<{ jobId?: string; taskId?: string }>(command, async (options, [word]) => {
      const mesh = await context.mesh()
      const { items } = await mesh.control.call('listSubtasks', taskRef(word, options))
      await context.list(columns, items)
    })
  }
}

/** How many there are of a multi-instance task, for `task show`. */
export function instances({ jobId, id, multiInstanceSettings }: TaskView): string | undefined {
  if (multiInstanceSettings === undefined) return undefined
  const count = multiInstanceSettings.numberOfInstances
  if (count === 1) return '1: the primary alone'
  return `${count}: the primary and ${count - 1} ${count === 2 ? 'subtask' : 'subtasks'} (batchmesh task subtasks ${jobId}/${id})`
}

export interface SubtaskOption {
  subtask?: string
}

export const subtaskOption = ['--subtask <id>', 'of a multi-instance task: of this subtask; 0 is the primary, as without it'] as const

export function subtaskOf(options: SubtaskOption): number | undefined {
  return integer(options.subtask, '--subtask', 0)
}
