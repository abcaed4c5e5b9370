/** The coordinator's side of protocols/control.ts: what submitters ask becomes events or reads. */

import { encode } from '../protocols/codec.ts'
import type { MeshStatus } from '../protocols/control.ts'
import { type ControlProtocol, controlProtocol } from '../protocols/control.ts'
import { MeshError } from '../protocols/errors.ts'
import { foldId } from '../protocols/ids.ts'
import { defaultPoolId } from '../protocols/model/pool.ts'
import { type CallHandlers, type Session, serverSession } from '../protocols/rpc.ts'
import type { Channel, Wire } from '../protocols/wire.ts'
import { arraySpecBytes } from './array-rows.ts'
import type { Desk } from './desk.ts'
import type { EventDesk } from './event-desk.ts'
import { eligible, explainPool, explainTask } from './explain.ts'
import { type Homes, inputsOf } from './homes.ts'
import { queueState } from './queue-state.ts'
import type { RendezvousDesk } from './rendezvous-desk.ts'
import type { Job, Pool, State } from './state.ts'
import type { Store } from './store.ts'
import { readMembers } from './subtask-rows.ts'
import { viewSubtasks } from './subtasks.ts'
import { type FilesPlace, placeOfFiles, type TaskFiles } from './task-files.ts'
import { completedEvents, listTasks, readTask, type TaskRows } from './task-rows.ts'
import { findMachine, viewCounts, viewJob, viewMachine, viewNode, viewPool, viewTask } from './view.ts'
import type { Watches } from './watches.ts'

export interface ControlParts {
  state: State
  store: Store
  desk: Desk
  watches: Watches
  events: EventDesk
  files: TaskFiles
  homes: Homes
  rendezvous: RendezvousDesk
  /** Resolves when all that has happened so far is durable: reads wait for it (L5). */
  durable: () => Promise<void>
  status: () => MeshStatus
  now: () => number
}

/** Serves submitters until the returned function is called. */
export function serveControl(wire: Wire, parts: ControlParts): () => void {
  return wire.serve(controlProtocol, (channel) => accept(channel, parts))
}

type ControlSession = Session<ControlProtocol['client'], ControlProtocol['server']>

function accept(channel: Channel, parts: ControlParts): void {
  const own = new Set<number>()
  const session: ControlSession = serverSession(controlProtocol, channel, {
    calls: handlers(parts, () => session, own),
    notes: {},
  })
  void session.closed.then(() => {
    for (const watchId of own) parts.watches.remove(watchId)
  })
}

function handlers(parts: ControlParts, session: () => ControlSession, own: Set<number>): CallHandlers<ControlProtocol['server']> {
  const { state, store, desk, watches, events, files, homes, durable, now } = parts
  /** What is seen now is answered once it is durable. */
  const shown = async <T>(read: () => T): Promise<T> => {
    const seen = read()
    await durable()
    return seen
  }
  const jobOf = (jobId: string): Job => {
    const job = state.jobIds.get(foldId(jobId))
    if (job === undefined) throw new MeshError('JobNotFound', `There is no job ${jobId}.`)
    return job
  }
  const poolOf = (poolId: string): Pool => {
    const pool = state.pools.get(foldId(poolId))
    if (pool === undefined) throw new MeshError('PoolNotFound', `There is no pool ${poolId}.`)
    return pool
  }
  const rowsOf = async (job: Job, taskId: string): Promise<TaskRows> => {
    await durable()
    const rows = await readTask(store, job, taskId)
    if (rows === undefined) throw new MeshError('TaskNotFound', `There is no task ${taskId} in job ${job.row.spec.id}.`)
    return rows
  }
  const filesOf = async (jobId: string, taskId: string, subtask = 0): Promise<FilesPlace> => {
    const job = jobOf(jobId)
    const rows = await rowsOf(job, taskId)
    return placeOfFiles(job, rows, subtask, subtask === 0 ? undefined : await readMembers(store, job, rows))
  }
  return {
    status: () => shown(parts.status),
    listMachines: () => shown(() => ({ items: [...state.machines.values()].map((machine) => viewMachine(state, machine)) })),
    getMachine: ({ machine: text }) =>
      shown(() => {
        const machine = findMachine(state, text)
        if (machine === undefined)
          throw new MeshError('MachineNotFound', `No machine is named ${text} (give its name, its peer id, or the end of it).`)
        const nodes = [...machine.nodes.values()].filter((node) => node.slots > 0).map(viewNode)
        return { ...viewMachine(state, machine), nodes, explanation: machine.draining ? ['It is going down and takes no new tasks.'] : [] }
      }),

    listEvents: (request, { signal }) => events.list(request, signal),

    addPool: async (spec) => {
      await desk.ask({ kind: 'addPool', spec })
      return viewPool(poolOf(spec.id))
    },
    listPools: () => shown(() => ({ items: [...state.pools.values()].map(viewPool) })),
    getPool: ({ poolId }) => shown(() => viewPool(poolOf(poolId))),
    resizePool: async (request) => {
      await desk.ask({ kind: 'resizePool', ...request })
      return viewPool(poolOf(request.poolId))
    },
    deletePool: async ({ poolId }) => desk.ask<Record<string, never>>({ kind: 'deletePool', poolId }),
    listNodes: ({ poolId }) => shown(() => ({ items: [...poolOf(poolId).nodes.values()].filter((node) => node.slots > 0).map(viewNode) })),

    addJob: async (spec, { remote }) => {
      await desk.ask({ kind: 'addJob', spec, submitter: remote.peer })
      return viewJob(state, jobOf(spec.id))
    },
    listJobs: ({ after, limit }) => shown(() => pageOfJobs(state, after, limit)),
    getJob: ({ jobId }) => shown(() => viewJob(state, jobOf(jobId))),
    updateJob: async (request) => {
      await desk.ask({ kind: 'updateJob', ...request })
      return viewJob(state, jobOf(request.jobId))
    },
    terminateJob: async (request) => desk.ask<Record<string, never>>({ kind: 'terminateJob', ...request }),
    deleteJob: async ({ jobId }) => desk.ask<Record<string, never>>({ kind: 'deleteJob', jobId }),

    addTasks: async ({ jobId, tasks }) => {
      const { uid, row } = jobOf(jobId)
      // Before the tasks are there, so that no input is swept while its task waits.
      await homes.keep(uid, row.spec.home ?? state.self, inputsOf(tasks))
      return desk.ask({ kind: 'addTasks', jobId, tasks, encoded: tasks.map((task) => encode(task)) })
    },
    addTaskArray: async ({ jobId, array }) => {
      const { uid, row } = jobOf(jobId)
      await homes.keep(uid, row.spec.home ?? state.self, inputsOf([array.template]))
      return desk.ask({ kind: 'addTaskArray', jobId, array, encoded: encode(array), specBytes: arraySpecBytes(array) })
    },
    listTasks: async ({ jobId, ...filter }) => {
      await durable()
      return listTasks(store, state, jobOf(jobId), filter)
    },
    getTask: async ({ jobId, taskId }) => {
      const job = jobOf(jobId)
      const rows = await rowsOf(job, taskId)
      return viewTask(state, job, rows.spec, rows.creationTime, rows.status)
    },
    terminateTask: async ({ jobId, taskId }) => desk.ask<Record<string, never>>({ kind: 'terminateTask', jobId, taskId }),
    reactivateTask: async ({ jobId, taskId }) => {
      const { spec, status } = await rowsOf(jobOf(jobId), taskId)
      if (status === undefined) throw new MeshError('TaskNotCompleted', `The task ${taskId} is not completed.`)
      return desk.ask<Record<string, never>>({ kind: 'reactivateTask', jobId, spec, status })
    },
    listSubtasks: async ({ jobId, taskId }) => {
      const job = jobOf(jobId)
      const members = await readMembers(store, job, await rowsOf(job, taskId))
      const items = members === undefined ? [] : viewSubtasks(job, taskId, members)
      await durable()
      return { items }
    },
    listTaskFiles: async ({ jobId, taskId, subtask, ...options }) => files.list(await filesOf(jobId, taskId, subtask), options),
    readTaskFile: async ({ jobId, taskId, subtask, ...options }) => files.read(await filesOf(jobId, taskId, subtask), options),

    watch: async ({ jobId, replay }) => {
      await durable()
      const job = jobOf(jobId)
      const current = { counts: viewCounts(job), jobState: job.row.state }
      const watchId = watches.add(job.uid, current, {
        send: (events) => session().note('jobEvents', events),
        drained: () => session().drained(),
        close: () => session().close(),
      })
      own.add(watchId)
      // After the answer, so that the caller knows the number before the first note.
      void (async () => {
        await durable()
        if (replay) for await (const events of completedEvents(store, job)) await watches.replay(watchId, events)
        watches.begin(watchId)
      })()
      return { watchId, jobUid: job.uid, ...current }
    },
    unwatch: ({ watchId }) => {
      if (own.delete(watchId)) watches.remove(watchId)
      return {}
    },

    rendezvous: (request, { signal }) => parts.rendezvous.meet(request, signal),

    explain: ({ jobId, taskId, poolId }) =>
      shown(() => {
        if (jobId !== undefined && taskId !== undefined) {
          const found = explainTask(state, jobOf(jobId), taskId, now())
          if (found === undefined) throw new MeshError('TaskNotFound', `There is no task ${taskId} in job ${jobId}.`)
          return found
        }
        if (poolId !== undefined) return explainPool(state, poolOf(poolId))
        if (jobId !== undefined) return queueState(state, jobOf(jobId), now())
        throw new MeshError('InvalidRequestBody', 'Name a task, a job or a pool to explain.')
      }),
    eligible: ({ poolId, task }) =>
      shown(() =>
        eligible(poolOf(poolId ?? defaultPoolId), { slots: task.requiredSlots, demand: task.resources ?? {}, thread: task.isThread }),
      ),
  }
}

function pageOfJobs(state: State, after: string | undefined, limit: number) {
  const uids = [...state.jobs.keys()].sort((a, b) => a - b)
  const rest = after === undefined ? uids : uids.filter((uid) => uid > Number(after))
  const items = rest.slice(0, limit).map((uid) => viewJob(state, state.jobs.get(uid)!))
  return { items, next: rest.length > limit ? String(rest[limit - 1]) : undefined }
}
