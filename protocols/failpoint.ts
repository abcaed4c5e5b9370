/**
 * Failpoints: the named places between two steps of writing down and of speaking, where a crash could lose what was
 * promised. A test has the process die, fail or stand still at one of them, and holds what it finds after against the
 * promises. Only the environment of its own process arms them, at its start: nothing that comes in later can.
 *
 *     BATCHMESH_FAILPOINTS=coordinator.batch.synced=crash@3,worker.report.sent=delay:500 batchmesh up
 *
 *     crash      the process kills itself, as `kill -9` would
 *     error      the step fails with an error
 *     delay:MS   the whole process stands still so long
 *     hang       the whole process stands still for ever
 *     @N         at the Nth time that the place is passed; without it at the first
 *
 * Not armed, which is decided once at load, `failpoint` is an empty function that the compiler inlines: it costs nothing.
 */

/** Every failpoint, and how things stand there. */
export const failpoints = {
  'coordinator.boot.opened': 'the rows can be read; the new owner epoch is not written',
  'coordinator.boot.claimed': 'the new owner epoch is on the disk, nobody was told',
  'coordinator.batch.writing': 'the turn has happened in memory; its rows are not written',
  'coordinator.batch.synced': 'the rows are on the disk; nobody was answered, granted or told',
  'coordinator.effect.performed': 'one answer, grant or note is out, the next of the batch is not',
  'coordinator.batch.performed': 'all answers are out; watches do not show it yet',
  'coordinator.purge.begun': 'a job is deleted; its rows are there',
  'coordinator.purge.cleared': 'the rows of its tasks are gone; its outputs are pinned',
  'coordinator.purge.released': 'its outputs are not pinned any more; its own row is there',
  'coordinator.restore.added': 'rows of a backup are written; it is no database yet',
  'coordinator.restore.finished': 'the restored database is complete; it is not in its place',

  'journal.start.counted': 'the number of this start is on the disk; nobody heard it',
  'journal.batch.writing': 'outcomes, reservations or acknowledgements are gathered; they are not written',
  'journal.batch.synced': 'they are written; those who wait for it do not know',
  'journal.epoch.given': 'a new owner epoch is obeyed in memory only',
  'journal.epoch.written': 'it is on the disk; nothing was done for its coordinator',
  'worker.node.reserved': 'the machine has set capacity aside in memory only',
  'worker.node.written': 'the reservation is on the disk; the coordinator was not answered',
  'worker.node.released': 'a node is given back in memory; its reservation is on the disk',
  'journal.outcome.given': 'a task has ended; its outcome is nowhere',
  'worker.outcome.kept': 'the outcome was given to the journal; it is not reported',
  'worker.report.sent': 'a report is on its way; there is no answer',
  'worker.report.answered': 'the coordinator has the outcome; the machine does not know',
  'worker.report.noted': 'the machine will forget the outcome; its journal may not have heard',
  'directory.task.made': 'a task has a directory; it does not run',
  'directory.task.sealing': 'the task has ended; its directory is open',
  'directory.task.discarded': 'an old directory is out of the way; the new one is not made',

  'blobs.file.renamed': 'a file is in its place; its row is not written',
  'blobs.rows.writing': 'rows and pins are decided; they are not written',
  'blobs.rows.synced': 'rows and pins are on the disk; nobody was told',
  'blobs.partial.sealed': 'all of a file has come; it is no blob yet',
  'blobs.sweep.trashed': 'a file that nothing keeps is out of its place; its row is there',
  'blobs.sweep.forgotten': 'its row is gone; its bytes are in the trash',
  'blobs.damage.listed': 'a file was found damaged; it is still in its place',

  'file.replace.written': 'the new content is on the disk beside the old file',
  'file.replace.renamed': 'the new file is in its place; the directory is not synced',
  'founding.root.saved': 'a new mesh has its root key; this machine is not its founder yet',
  'founding.registry.saved': 'its registry is written too; only the membership is missing',
  'restore.files.made': 'all of a backup is beside its place, whole; nothing is in its place',
  'restore.rows.moved': 'the rows of a backup are in their place, its identity is not',
  'registry.change.saved': 'an invitation, member or removal is on the disk; nobody was answered',
  'membership.certificate.saved': 'a renewed certificate is on the disk; it is not shown yet',
  'membership.revocations.saved': 'a list of those removed is on the disk; nothing was closed for it',
  'enrol.key.made': 'a newcomer has its key; nobody was asked',
  'enrol.founder.answered': 'the founder has admitted the newcomer; it has written nothing',
  'enrol.membership.saved': 'the newcomer is a member; it has told nobody',
} as const
export type FailpointName = keyof typeof failpoints

export type FailAction = { kind: 'crash' | 'error' | 'hang' } | { kind: 'delay'; ms: number }
export interface Armed {
  name: FailpointName
  action: FailAction
  /** At which passing, from 1. */
  nth: number
}

/** What the variable asks for. Throws a sentence for what is not understood: a test must not run unarmed. */
export function readFailpoints(text: string): Armed[] {
  return text.split(',').map((part) => {
    const [, name, kind, ms, nth] = /^([a-z.]+)=(crash|error|hang|delay)(?::(\d+))?(?:@(\d+))?$/.exec(part.trim()) ?? []
    const trouble =
      kind === undefined || (kind === 'delay') !== (ms !== undefined) || nth === '0'
        ? 'write NAME=crash, error, hang or delay:MS, and @N for the Nth time'
        : Object.hasOwn(failpoints, name!)
          ? undefined
          : `there is no failpoint ${name}`
    if (trouble !== undefined) throw new Error(`BATCHMESH_FAILPOINTS is not understood at ${JSON.stringify(part)}: ${trouble}.`)
    const action = kind === 'delay' ? ({ kind, ms: Number(ms) } as const) : ({ kind } as { kind: 'crash' | 'error' | 'hang' })
    return { name: name as FailpointName, action, nth: nth === undefined ? 1 : Number(nth) }
  })
}

/** Called at each failpoint that is passed; `nth`: how often this one was. What it throws is thrown there. */
export type Passed = (name: FailpointName, nth: number) => void

/** In a process that was started with it, {@link onFailpoint} says what happens. */
export const heardHere = 'test'

const asked = globalThis.process?.env?.BATCHMESH_FAILPOINTS ?? ''
let passed: Passed = asked === '' || asked === heardHere ? () => {} : actsOf(readFailpoints(asked))
const times = new Map<FailpointName, number>()

function pass(name: FailpointName): void {
  const nth = (times.get(name) ?? 0) + 1
  times.set(name, nth)
  passed(name, nth)
}

/** Passes a failpoint. */
export const failpoint: (name: FailpointName) => void = asked === '' ? () => {} : pass

/** What is armed in this process, for its log; empty in every normal run. */
export const armedFailpoints = asked

/** Says what happens from now on at each failpoint, counting anew. Throws in a process that was not started for it. */
export function onFailpoint(then: Passed): void {
  if (asked !== heardHere) throw new Error(`Start the process with BATCHMESH_FAILPOINTS=${heardHere} to listen to its failpoints.`)
  times.clear()
  passed = then
}

function actsOf(armed: readonly Armed[]): Passed {
  return (name, nth) => {
    for (const one of armed) if (one.name === name && one.nth === nth) act(name, one.action)
  }
}

function act(name: FailpointName, action: FailAction): void {
  const { process } = globalThis
  process.stderr.write(`failpoint ${name}: ${action.kind}\n`)
  if (action.kind === 'crash') process.kill(process.pid, 'SIGKILL')
  if (action.kind === 'error') throw new Error(`The failpoint ${name} was armed to fail.`)
  // The whole process, as if it had been stopped or its machine had no processor to give.
  if (action.kind === 'delay' || action.kind === 'hang')
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, action.kind === 'delay' ? action.ms : undefined)
}
