/** Format 3: jobs that go on get rows of their roll, made from the specs of their tasks. */
import { decode, encode } from '../protocols/codec.ts'
import type { PeerIdText } from '../protocols/ids.ts'
import { taskSpecSchema } from '../protocols/model/task.ts'
import { addJobToState, newState } from './make-state.ts'
import { type Enrolled, makeRollRow } from './roll-rows.ts'
import { type JobRow, type MeshRow, rollKey, type SpecRow, specPrefix } from './rows.ts'
import type { Store } from './store.ts'
import { enroll } from './task-book.ts'
import { kindOf } from './tasks.ts'

/** Tasks in one row. */
const chunk = 1000

/** Writes the same rows again when a start before this one broke off. */
export async function makeRolls(store: Store, self: PeerIdText, mesh: MeshRow, chance: Uint32Array): Promise<void> {
  const state = newState(self, mesh, 0, chance)
  for await (const [, value] of store.scan({ gt: 'job/', lt: 'job/\uffff' })) {
    const row = decode(value) as JobRow
    if (row.state === 'active') await makeRoll(store, state, row)
  }
}

async function makeRoll(store: Store, state: ReturnType<typeof newState>, row: JobRow): Promise<void> {
  const job = addJobToState(state, row)
  const prefix = specPrefix(job.uid)
  let tasks: Enrolled[] = []
  const write = async () => {
    if (tasks.length > 0) await store.write(new Map([[rollKey(job.uid, job.roll.size - tasks.length), encode(makeRollRow(tasks))]]))
    tasks = []
  }
  for await (const [, value] of store.scan({ gt: prefix, lt: `${prefix}\uffff` })) {
    const { spec: encoded } = decode(value) as SpecRow
    const spec = taskSpecSchema.parse(decode(encoded))
    const kind = job.roll.kindAt(enroll(job, spec.id, kindOf(job, spec, encoded.length)))
    tasks.push({ id: spec.id, kind, isDependent: spec.dependsOn !== undefined })
    if (tasks.length === chunk) await write()
  }
  await write()
}
