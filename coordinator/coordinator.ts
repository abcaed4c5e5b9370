/**
 * The coordinator: its memory, its rows and its conversations put together. It speaks to machines and submitters only
 * through the Wire, also to those in its own process.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { MeshError } from '../protocols/errors.ts'
import { failpoint } from '../protocols/failpoint.ts'
import { type JobUid, type PeerIdText, taskKey } from '../protocols/ids.ts'
import type { Grant } from '../protocols/leases.ts'
import type { Logger } from '../protocols/logger.ts'
import { encodeOffer, offersTopic } from '../protocols/offers.ts'
import type { Wire } from '../protocols/wire.ts'
import { announce } from './announce.ts'
import { boot } from './boot.ts'
import { Breath } from './breath.ts'
import { tickMs } from './clock.ts'
import { serveControl } from './control.ts'
import { Desk } from './desk.ts'
import { EventDesk, openEventLog } from './event-desk.ts'
import { Homes } from './homes.ts'
import { type Batch, type OutEffect, Pipeline } from './pipeline.ts'
import { RendezvousDesk } from './rendezvous-desk.ts'
import { jobKey, storeFormat, taskPrefixes } from './rows.ts'
import { WorkerSessions } from './sessions.ts'
import { SpecCache } from './spec-cache.ts'
import type { Store } from './store.ts'
import { TaskFiles } from './task-files.ts'
import { vetReports } from './vet.ts'
import { viewStatus } from './view.ts'
import { Watches } from './watches.ts'

/** How often the loop's lag is looked at: each look wakes a process at rest. */
const lagResolutionMs = 100

export interface CoordinatorOptions {
  wire: Wire
  store: Store
  meshId: string
  /** Of the machine it runs on, for `status`. */
  name: string
  version: string
  logger: Logger
  now?: () => number
  /** False where the mesh has been there before, so that an empty store has lost its rows. */
  isNewMesh?: boolean
  /** The disk failed: the process must end and start anew (L5). */
  fatal: (error: unknown) => void
}

export interface Coordinator {
  readonly ownerEpoch: number
  /** A member was sent away: nothing of it stays. */
  revoked(peer: PeerIdText): void
  /** Writes what has happened and ends; workers run on and wait for the next start. */
  stop(): Promise<void>
}

/** Reads the rows, takes up the work where it was left, and serves until stopped. */
export async function startCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const { wire, store, meshId, logger } = options
  const now = options.now ?? Date.now
  const { state, purge, migrated } = await boot(store, wire.peer, now(), options.isNewMesh)
  const log = await openEventLog(store, state, options, now())
  const desk = new Desk()
  const specs = new SpecCache(store, state)
  const watches = new Watches()
  const files = new TaskFiles(wire)
  const homes = new Homes(wire)
  const startTime = now()
  const delay = monitorEventLoopDelay({ resolution: lagResolutionMs })
  delay.enable()

  const purgeJob = async (jobUid: JobUid, home: PeerIdText) => {
    failpoint('coordinator.purge.begun')
    for (const prefix of taskPrefixes(jobUid)) await store.clear({ gt: prefix, lt: `${prefix}\uffff` })
    failpoint('coordinator.purge.cleared')
    await homes
      .letGo(jobUid, home)
      .catch((error: unknown) => logger.warn({ jobUid, error: String(error) }, 'the outputs of a deleted job are still pinned'))
    failpoint('coordinator.purge.released')
    await store.write(new Map([[jobKey(jobUid), undefined]]))
  }
  const background = (work: Promise<void>, what: string) => {
    work.catch((error: unknown) => logger.error({ error: String(error) }, what))
  }

  const perform = async (batch: Batch) => {
    const wanted = batch.effects.flatMap((effect) => (effect.kind === 'grants' ? effect.grants.map((ref) => ref.attempt) : []))
    const found = wanted.length === 0 ? undefined : await specs.take(wanted)
    const breath = new Breath()
    for (const effect of batch.effects) {
      if (breath.isDue) await breath.take()
      speak(effect, found)
      failpoint('coordinator.effect.performed')
    }
    failpoint('coordinator.batch.performed')
    watches.show(batch)
  }

  const speak = (effect: OutEffect, found: ReadonlyMap<string, Uint8Array> | undefined) => {
    switch (effect.kind) {
      case 'answer':
        return desk.answer(effect.replyTo, effect.body)
      case 'refuse':
        return desk.refuse(effect.replyTo, new MeshError(effect.code, effect.message))
      case 'grants': {
        // A spec is missing only when its job was deleted meanwhile.
        const grants: Grant[] = effect.grants.flatMap((ref) => {
          const spec = found!.get(taskKey(ref.attempt.jobUid, ref.attempt.task))
          return spec === undefined ? [] : [{ ...ref, spec }]
        })
        if (effect.replyTo !== undefined) desk.answer(effect.replyTo, { grants, jobs: effect.jobs, held: effect.held })
        else sessions.get(effect.peer)?.note('grant', { grants, jobs: effect.jobs })
        return
      }
      case 'offer':
        return wire.publish(
          offersTopic(meshId, effect.poolId),
          encodeOffer({ poolId: effect.poolId, pending: effect.pending, ownerEpoch: state.mesh.ownerEpoch }),
        )
      case 'purge':
        sessions.forgetJob(effect.jobUid)
        return background(
          purgeJob(effect.jobUid, effect.home),
          'the rows of a deleted job could not be removed; the next start tries again',
        )
      case 'log':
        return logger[effect.level](effect.fields, effect.message)
      case 'changed':
        return
      default:
        return sessions.tell(effect)
    }
  }

  const events: EventDesk = new EventDesk(log, state, () => pipeline.durable())
  const pipeline = new Pipeline({
    state,
    store,
    now,
    perform,
    beat: (beat) => sessions.tell(beat),
    onPut: (key, value) => specs.keep(key, value),
    tell: (event, effects, at) => events.tell(event, effects, at),
    fatal: options.fatal,
  })
  desk.attach(pipeline)
  const sessions = new WorkerSessions(desk, wire, (reports) => vetReports(specs, reports), logger)
  // What is measured is the time between two looks, the pause included.
  const lagMs = () => Math.max(0, delay.max / 1e6 - lagResolutionMs)
  const status = () => ({
    ...viewStatus(state, meshId, { startTime, version: options.version, name: options.name }, lagMs()),
    time: now(),
  })
  const unserve = serveControl(wire, {
    state,
    store,
    desk,
    watches,
    events,
    files,
    homes,
    rendezvous: new RendezvousDesk(),
    durable: () => pipeline.durable(),
    status,
    now,
  })
  const ticker = setInterval(() => desk.post({ kind: 'tick' }), tickMs)
  const unannounce = announce(wire, meshId, state)
  for (const row of purge)
    background(purgeJob(row.uid, row.spec.home ?? wire.peer), 'the rows of a deleted job could not be removed; the next start tries again')
  for (const what of migrated) logger.info({ format: storeFormat }, `the database of an older version was migrated: ${what}`)
  logger.info({ ownerEpoch: state.mesh.ownerEpoch, jobs: state.jobs.size }, 'the coordinator is ready')

  return {
    ownerEpoch: state.mesh.ownerEpoch,
    revoked(peer) {
      sessions.drop(peer)
      desk.post({ kind: 'revoked', peer })
    },
    async stop() {
      clearInterval(ticker)
      unannounce()
      unserve()
      sessions.stop()
      delay.disable()
      await pipeline.stop()
      desk.close()
      await store.close()
    },
  }
}
