/**
 * The coordinator as a pure machine: `step` takes what happened, changes the state, and answers what is to be done.
 * The shell (coordinator.ts) gathers the events of one turn of the event loop, steps through all of them, calls
 * {@link endTurn}, makes the rows durable in one batch, and only then does the rest (L5).
 */
import { toMeshError } from '../protocols/errors.ts'
import { onAddTaskArray } from './arrays.ts'
import { isJump } from './clock.ts'
import type { Effect, Event } from './events.ts'
import {
  endIfDone,
  limitJobs,
  onAddJob,
  onAddTasks,
  onDeleteJob,
  onReactivateTask,
  onTerminateJob,
  onTerminateTask,
  onUpdateJob,
} from './jobs.ts'
import {
  countAnew,
  expire,
  forgetMachine,
  onClaim,
  onGone,
  onHeartbeat,
  onHello,
  onReport,
  onReturned,
  onStarted,
  onUploading,
} from './machines.ts'
import { allocateMarked, onAddPool, onDeletePool, onReserved, onResizePool, removeForsaken } from './pools.ts'
import { settle } from './settle.ts'
import type { State } from './state.ts'
import { refuse, type Turn } from './turn.ts'

/** One event. Never throws for what a peer or user sent: bad requests are refused. */
export function step(state: State, event: Event, now: number): Effect[] {
  const turn: Turn = { state, now, out: [] }
  try {
    handle(turn, event)
  } catch (error) {
    const { code, message } = toMeshError(error)
    if (!('replyTo' in event) || code === 'InternalError') throw error
    refuse(turn, event.replyTo, code, message)
  }
  return turn.out
}

/** The end of a turn: pools get what they lack, waiting tasks meet waiting claims. */
export function endTurn(state: State, now: number): Effect[] {
  const turn: Turn = { state, now, out: [] }
  allocateMarked(turn)
  settle(turn)
  return turn.out
}

/** Whether the next turn has work without any new event: more claims wait than one turn serves. */
export function isUnsettled(state: State): boolean {
  for (const pool of state.pools.values()) if (pool.dirty) return true
  return false
}

function handle(turn: Turn, event: Event): void {
  switch (event.kind) {
    case 'tick':
      return onTick(turn)
    case 'hello':
      return onHello(turn, event)
    case 'gone':
      return onGone(turn, event)
    case 'heartbeat':
      return onHeartbeat(turn, event)
    case 'claim':
      return onClaim(turn, event)
    case 'report': {
      onReport(turn, event)
      for (const uid of new Set(event.reports.map((report) => report.attempt.jobUid))) {
        const job = turn.state.jobs.get(uid)
        if (job !== undefined) endIfDone(turn, job)
      }
      return
    }
    case 'started':
      return onStarted(turn, event)
    case 'uploading':
      return onUploading(turn, event)
    case 'draining':
    case 'retracted':
      return onReturned(turn, event)
    case 'revoked': {
      const machine = turn.state.machines.get(event.peer)
      if (machine !== undefined) forgetMachine(turn, machine)
      return
    }
    case 'reserved':
      return onReserved(turn, event)
    case 'addPool':
      return onAddPool(turn, event)
    case 'resizePool':
      return onResizePool(turn, event)
    case 'deletePool':
      return onDeletePool(turn, event)
    case 'addJob':
      return onAddJob(turn, event)
    case 'updateJob':
      return onUpdateJob(turn, event)
    case 'terminateJob':
      return onTerminateJob(turn, event)
    case 'deleteJob':
      return onDeleteJob(turn, event)
    case 'addTasks':
      return onAddTasks(turn, event)
    case 'addTaskArray':
      return onAddTaskArray(turn, event)
    case 'terminateTask': {
      onTerminateTask(turn, event)
      return endDoneJobs(turn)
    }
    case 'reactivateTask':
      return onReactivateTask(turn, event)
  }
}

function onTick(turn: Turn): void {
  const { state, now } = turn
  if (isJump(state.lastTick, now)) countAnew(turn)
  state.lastTick = now
  expire(turn)
  limitJobs(turn)
  endDoneJobs(turn)
  removeForsaken(turn)
  for (const pool of state.pools.values()) {
    // Machines are asked again, and given up, without any other event.
    pool.toAllocate = true
    // Gangs age, and hoards are shared.
    pool.dirty = true
  }
}

function endDoneJobs(turn: Turn): void {
  for (const job of turn.state.jobs.values()) endIfDone(turn, job)
}
