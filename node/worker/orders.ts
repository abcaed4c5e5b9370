/** What the coordinator tells a worker to do, behind the gate of its session. */
import type { Attempt, JobUid } from '../../protocols/ids.ts'
import type { Grant, JobBrief, leasesProtocol } from '../../protocols/leases.ts'
import type { Reservation } from '../../protocols/pools.ts'
import type { Handlers } from '../../protocols/rpc.ts'
import type { Log } from '../ports.ts'
import type { Gate } from './link.ts'

export interface Orders {
  retract(attempts: readonly Attempt[]): Promise<{ retracted: Attempt[] }>
  reserve(request: Reservation): Promise<{ granted: boolean; draining: boolean; reason?: string }>
  beat(sentAt: number, heartbeatMs: number): void
  grant(grants: readonly Grant[], jobs: readonly JobBrief[]): void
  stop(attempts: readonly Attempt[], reason: string): void
  release(reservationId: number, isNow: boolean): void
  forget(jobUid: JobUid): void
}

export function ordersOf(log: Log, orders: Orders): (gate: Gate) => Handlers<typeof leasesProtocol.client> {
  return (gate) => {
    const does = (act: () => void) => {
      gate(act).catch((error: unknown) => log.error({ err: error }, 'what the coordinator told could not be done'))
    }
    return {
      calls: {
        retract: ({ attempts }) => gate(() => orders.retract(attempts)),
        reserve: (request) => gate(() => orders.reserve(request)),
      },
      notes: {
        beat: ({ sentAt, heartbeatMs }) => orders.beat(sentAt, heartbeatMs),
        grant: ({ grants, jobs }) => does(() => orders.grant(grants, jobs)),
        stop: ({ attempts, reason }) => does(() => orders.stop(attempts, reason)),
        release: ({ reservationId, now }) => does(() => orders.release(reservationId, now)),
        forget: ({ jobUid }) => does(() => orders.forget(jobUid)),
      },
    }
  }
}
