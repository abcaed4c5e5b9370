/** The page of a report: one HTML file that needs nothing else. All that comes from users and machines is escaped. */
import { quoteWord } from '../../../protocols/model/command-line.ts'
import type { JobView } from '../../../protocols/model/job.ts'
import { escaped } from '../../timeline.ts'
import { showDuration } from '../format.ts'
import { busySlots, kindLabels, spanOf, timeline, utilisation } from './charts.ts'
import { style } from './style.ts'
import { type Kind, kinds, type Listed, quantile, type Tally } from './tally.ts'

const mostCommands = 5
const mostGroups = 30

export interface Report {
  job: JobView
  tally: Tally
  /** Task slots that the job's pool has now; 0 when there is no such pool. */
  slots: number
  now: number
  meshId: string
}

export function page(report: Report): string {
  const { job, tally } = report
  const parts = [
    head(report),
    job.counts.completed + tally.attempts.start.length > 0 ? times(report) : '',
    failures(report),
    machinesOut(job),
    slowest(tally),
    again(tally),
  ]
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Job ${escaped(job.id)}</title>
<style>${style}</style>
</head>
<body>
<main>
${parts.filter((part) => part !== '').join('\n')}
<p class="quiet" style="margin-top:40px">Made by <code>batchmesh job report ${escaped(job.id)}</code> on ${time(report.now)}${job.state === 'completed' ? '' : '; the job was still active then'}. Mesh ${escaped(report.meshId)}.</p>
</main>
</body>
</html>
`
}

/** In UTC: a report is read in other places than it was made. */
function time(ms: number): string {
  return `${new Date(ms).toISOString().replace('T', ' ').slice(0, 19)} UTC`
}

const count = (value: number): string => value.toLocaleString('en-US')
function hours(ms: number): string {
  const value = ms / 3_600_000
  return value > 0 && value < 0.01 ? '&lt;0.01' : value.toLocaleString('en-US', { maximumFractionDigits: value < 100 ? 2 : 0 })
}
const tasks = (value: number): string => `${count(value)} ${value === 1 ? 'task' : 'tasks'}`

function head({ job, tally, now, slots }: Report): string {
  const { waiting, running, succeeded, failed } = tally.states
  const isOver = job.state === 'completed'
  const badge = !isOver
    ? ['live', running > 0 ? 'running' : job.state]
    : failed > 0
      ? ['bad', 'completed with failures']
      : ['good', 'completed']
  const span = spanOf(tally.attempts)
  const { average, peak } = busySlots(tally.attempts, span)
  const all = kinds.reduce((sum, kind) => sum + tally.coreMs[kind], 0)
  const useful = tally.coreMs.success + tally.coreMs.running
  const lasted = (job.endTime ?? now) - job.creationTime
  const share = (part: number, kind: string) =>
    part === 0 ? '' : `<div class="${kind}" style="width:${(part / tally.tasks) * 100}%"></div>`
  const cards = [
    [count(succeeded), `of ${tasks(tally.tasks)} succeeded`],
    [count(failed), 'failed'],
    ...(waiting + running > 0 ? [[count(running), `running, ${count(waiting)} ${isOver ? 'never run' : 'waiting'}`]] : []),
    [showDuration(lasted), isOver ? 'from submission to end' : 'since submission'],
    [hours(all), 'CPU-hours: wall time × cores of a task'],
    ...(all > 0 && useful < all ? [[`${Math.round((1 - useful / all) * 100)} %`, 'of them in attempts that did not succeed']] : []),
    ...(average > 0
      ? [[String(Math.round(average * 10) / 10), `slots busy on average, ${count(peak)} at most${slots > 0 ? `, of ${count(slots)}` : ''}`]]
      : []),
  ]
  const facts: [string, string][] = [
    ['Pool', escaped(job.poolId)],
    ['Submitted', `${time(job.creationTime)}${job.submitter === undefined ? '' : ` by ${escaped(job.submitter)}`}`],
    ...(tally.attempts.start.length > 0 ? ([['First start', time(span.begin)]] as [string, string][]) : []),
    ...(job.endTime === undefined
      ? []
      : ([['Ended', `${time(job.endTime)}${job.terminateReason === undefined ? '' : ` (${escaped(job.terminateReason)})`}`]] as [
          string,
          string,
        ][])),
    [tally.commands.size > 1 ? 'Commands' : 'Command', commands(tally)],
  ]
  return `<h1>${escaped(job.displayName ?? job.id)} <span class="badge ${badge[0]}">${escaped(badge[1]!)}</span></h1>
${job.displayName === undefined ? '' : `<p class="quiet">Job ${escaped(job.id)}</p>`}
<div class="progress">${share(succeeded, 'success')}${share(failed, 'failure')}${share(running, 'running')}</div>
<div class="cards">${cards.map(([value, what]) => `<div class="card"><b>${value}</b><span>${what}</span></div>`).join('')}</div>
<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join('')}</dl>`
}

/** Commands that differ in numbers only are shown once. */
function commands(tally: Tally): string {
  const shapes = [...tally.commands.values()].sort((a, b) => b.count - a.count)
  const shown = shapes.slice(0, mostCommands).map(({ first, count: many }) => {
    const others = many > 1 ? ` <span class="quiet">and ${tasks(many - 1)} like it</span>` : ''
    return `<div><code>${escaped(cut(first))}</code>${others}</div>`
  })
  return `${shown.join('')}${shapes.length > mostCommands ? '<div class="quiet">and others</div>' : ''}` || 'none yet'
}

function times({ tally, slots }: Report): string {
  const { attempts } = tally
  if (attempts.start.length === 0) return ''
  const span = spanOf(attempts)
  const took = tally.tookMs.toSorted((a, b) => a - b)
  const lengths =
    took.length === 0
      ? ''
      : `<p class="quiet">Half of the tasks took at most ${showDuration(quantile(took, 0.5))}, nine of ten at most ${showDuration(quantile(took, 0.9))}, the longest ${showDuration(took.at(-1)!)}.</p>`
  const peak = busySlots(attempts, span).peak
  const note =
    slots === 0
      ? 'The pool is not there any more, so it is not known how many slots it had.'
      : `The dashed line is what the pool has now: ${count(slots)} ${slots === 1 ? 'slot' : 'slots'}.${peak > slots ? ' It had more while the job ran.' : ''}`
  return `<h2>When and where</h2>${lengths}${timeline(attempts, tally.nodes, span)}
<h2>Busy slots</h2><p class="quiet">${note}</p>${utilisation(attempts, span, slots)}${ends(tally)}`
}

function ends(tally: Tally): string {
  const rows = kinds.flatMap((kind) =>
    tally.ends[kind] === 0
      ? []
      : [
          `<tr><td class="tries"><i class="${kind}"></i>${kindLabels[kind]}</td><td class="num">${count(tally.ends[kind])}</td><td class="num">${hours(tally.coreMs[kind])}</td></tr>`,
        ],
  )
  return `<h2>Attempts</h2><div class="scroll"><table><thead><tr><th>How they ended</th><th class="num">Attempts</th><th class="num">CPU-hours</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function failures({ job, tally }: Report): string {
  const { groups } = tally.failures
  if (groups.length === 0) return ''
  const shown = groups.slice(0, mostGroups).map(({ what, taskIds, stderr }) => {
    const first = taskIds[0]!
    const others = taskIds.slice(1, 8).map((id) => escaped(id))
    const also =
      others.length === 0 ? '' : ` Also ${others.join(', ')}${taskIds.length > 8 ? ` and ${count(taskIds.length - 8)} more` : ''}.`
    const see = ['show', 'logs --stderr'].map((verb) => {
      const [name, ...options] = verb.split(' ')
      return `<code>batchmesh task ${[name, quoteWord(`${job.id}/${first}`), ...options].map((word) => escaped(word!)).join(' ')}</code>`
    })
    return `<div class="group"><b>${tasks(taskIds.length)}: ${escaped(cut(what))}</b>
<p>Such as <code>${escaped(first)}</code>: <code>${escaped(cut(tally.failedCommands.get(first) ?? ''))}</code>.${also}</p>
${stderr.length === 0 ? '<p class="quiet">Nothing on standard error.</p>' : `<pre>${escaped(stderr.join('\n'))}</pre>`}
<p class="quiet">More: ${see.join(' · ')}</p></div>`
  })
  const rest = groups.length - shown.length
  return `<h2>Failures</h2>${shown.join('\n')}${rest > 0 ? `<p class="quiet">${count(rest)} more kinds of failure are not shown.</p>` : ''}`
}

function machinesOut(job: JobView): string {
  if (job.excludedMachines.length === 0) return ''
  const rows = job.excludedMachines.map(({ name, reason }) => `<tr><td>${escaped(name)}</td><td>${escaped(reason)}</td></tr>`)
  return `<h2>Machines left out</h2><div class="scroll"><table><thead><tr><th>Machine</th><th>Why</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function slowest({ slowest }: Tally): string {
  if (slowest.length < 2) return ''
  const rows = slowest.map(
    ({ id, tookMs, machine, command, result }) =>
      `<tr><td>${escaped(id)}</td><td class="num">${showDuration(tookMs)}</td><td>${escaped(result)}</td><td>${escaped(machine)}</td><td><code>${escaped(cut(command))}</code></td></tr>`,
  )
  return `<h2>Slowest tasks</h2><div class="scroll"><table><thead><tr><th>Task</th><th class="num">Took</th><th>Result</th><th>Machine</th><th>Command</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function again({ mostTried, triedAgain }: Tally): string {
  if (mostTried.length === 0) return ''
  const running: Kind = 'running'
  const tries = ({ attempts }: Listed) =>
    attempts
      .map(
        ({ end = running, exitCode }) =>
          `<i class="${end}" title="${kindLabels[end]}${exitCode === undefined ? '' : `, exit code ${exitCode}`}"></i>`,
      )
      .join('')
  const rows = mostTried.map(
    (one) =>
      `<tr><td>${escaped(one.id)}</td><td class="tries">${tries(one)}</td><td>${[...new Set(one.attempts.map(({ end = running }) => kindLabels[end]))].join(', ')}</td><td>${escaped(one.result)}</td></tr>`,
  )
  const more =
    triedAgain > mostTried.length
      ? `<p class="quiet">${tasks(triedAgain)} ran more than once; those with the most attempts are shown.</p>`
      : ''
  return `<h2>Run more than once</h2>${more}<div class="scroll"><table><thead><tr><th>Task</th><th>Attempts</th><th>Which</th><th>In the end</th></tr></thead><tbody>${rows.join('')}</tbody></table></div>`
}

function cut(text: string): string {
  return text.length > 500 ? `${text.slice(0, 500)}…` : text
}
