/** `batchmesh job report`. */
import type { Command } from 'commander'
import { type Context, given } from '../context.ts'
import { interruptible } from '../interrupt.ts'

interface Options {
  jobId?: string
  to?: string
}

export function register(group: Command, context: Context): void {
  const command = group
    .command('report')
    .description(
      'Writes one HTML page on a job, while it runs or after: what ran when and where, how busy the machines were, CPU-hours, failures that are alike, slow tasks, retries. It needs no network and can be sent on as it is.',
    )
    .argument('[job]')
    .option('--job-id <id>')
    .option('--to <file>', 'where to write it, - for standard output; default JOB-report.html')
    .addHelpText('after', '\nExamples:\n  batchmesh job report render\n  batchmesh job report render --to report.html')
  context.action<Options>(command, async (options, [word]) => {
    const { makeReport } = await import('./make.ts')
    return interruptible(context.world, (signal) => makeReport(context, given(options.jobId ?? word, 'job'), options.to, signal))
  })
}
