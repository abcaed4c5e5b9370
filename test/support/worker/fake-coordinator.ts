/** A coordinator in name only, at the other end of an in-memory wire: it records what a worker says and answers as told. */
import { loopbackPair } from '../../../node/loopback.ts'
import { encode } from '../../../protocols/codec.ts'
import { MeshError } from '../../../protocols/errors.ts'
import { type Attempt, attemptKey } from '../../../protocols/ids.ts'
import {
  type Claim,
  type ClaimAnswer,
  type Grant,
  type Hello,
  type JobBrief,
  leasesProtocol,
  type Report,
  type Verdict,
  type Welcome,
} from '../../../protocols/leases.ts'
import type { TaskSpecInput } from '../../../protocols/model/task.ts'
import { type Session, serverSession } from '../../../protocols/rpc.ts'
import type { Channel, Wire } from '../../../protocols/wire.ts'

export const workerPeer = 'worker-peer-0001'
export const coordinatorPeer = 'coordinator-peer'

export const defaultNode = {
  reservationId: 0,
  ownerEpoch: 1,
  poolId: 'default',
  nodeId: 'n0',
  size: { cores: 2, memoryMiB: 4096, gpus: 0 },
  taskSlots: 2,
}

export const brief: JobBrief = {
  jobUid: 1,
  jobId: 'Job',
  poolId: 'default',
  home: coordinatorPeer,
  disconnect: { replace: true, stopOnClient: false },
}

/** A grant of the task `id` of job 1 on the default pool's node. */
export function grantOf(
  id: string,
  extra: Partial<TaskSpecInput> = {},
  how: { epoch?: number; nodeId?: string; gang?: Grant['gang'] } = {},
): Grant {
  const spec: TaskSpecInput = { id, commandLine: `run ${id}`, ...extra }
  return { attempt: attemptOf(id, how.epoch), nodeId: how.nodeId ?? 'n0', spec: encode(spec), gang: how.gang }
}

export function attemptOf(id: string, epoch = 1): Attempt {
  return { jobUid: 1, task: id.toLowerCase(), epoch }
}

type LeaseServer = Session<typeof leasesProtocol.client, typeof leasesProtocol.server>

export class FakeCoordinator {
  /** The worker's wire. */
  readonly wire: Wire
  readonly hellos: Hello[] = []
  readonly claims: Claim[] = []
  readonly reports: Report[] = []
  readonly reportsInRequests: number[] = []
  readonly started: (Attempt & { startTime: number })[] = []
  readonly uploading: Attempt[] = []
  readonly returned: Attempt[] = []
  readonly heartbeats: number[] = []
  drained = 0
  dismissed = 0
  opens = 0
  /** Set: `open` rejects. */
  unreachable = false
  /** Set: `open` rejects with it. */
  refusal: MeshError | undefined
  ownerEpoch = 1
  heartbeatMs = 5000
  nodes: Welcome['nodes'] = [defaultNode]
  answersBeats = true
  /** Called before a hello is answered. */
  onHello: () => void = () => {}
  /** Which of the inventory to go on with. */
  keep: (hello: Hello) => Attempt[] = (hello) => hello.inventory.map((item) => item.attempt)
  /** How a report is answered. */
  verdict: (report: Report) => Verdict = () => 'accepted'
  /** Reports wait for it before they are answered. */
  reportGate: Promise<void> | undefined
  /** Given, in order, to claims that come; a claim waits while there are none. */
  readonly queue: Grant[] = []
  /** Grants all of the queue that the claims' slots and prefetch allow, else one claim takes the whole queue. */
  byRoom = false
  briefs: JobBrief[] = [brief]
  held: string[] = []
  session: LeaseServer | undefined
  channel: Channel | undefined
  readonly #topics = new Map<string, Set<(data: Uint8Array, from: string) => void>>()
  #parked: { claim: Claim; answer: (answer: ClaimAnswer) => void } | undefined
  #briefed = new Set<number>()

  constructor() {
    this.wire = {
      peer: workerPeer,
      open: async () => this.#open(),
      serve: () => () => {},
      learn: () => {},
      addresses: () => [],
      probe: async () => 'unknown',
      publish: () => {},
      subscribe: (topic, handler) => {
        const handlers = this.#topics.get(topic) ?? new Set()
        this.#topics.set(topic, handlers.add(handler))
        return () => {
          handlers.delete(handler)
          if (handlers.size === 0) this.#topics.delete(topic)
        }
      },
    }
  }

  get topics(): string[] {
    return [...this.#topics.keys()]
  }

  gossip(topic: string, data: Uint8Array): void {
    for (const handler of this.#topics.get(topic) ?? []) handler(data, 'somebody')
  }

  #open(): Channel {
    this.opens += 1
    if (this.refusal !== undefined) throw this.refusal
    if (this.unreachable) throw new MeshError('Unreachable')
    const [theirs, mine] = loopbackPair({ peer: coordinatorPeer, roles: ['coordinator'] }, leasesProtocol.maxFrameBytes)
    this.channel = mine
    this.#briefed = new Set()
    this.session = serverSession(leasesProtocol, mine, {
      calls: {
        hello: (hello) => {
          this.hellos.push(hello)
          this.onHello()
          return { ownerEpoch: this.ownerEpoch, heartbeatMs: this.heartbeatMs, keep: this.keep(hello), nodes: this.nodes }
        },
        claim: (claim) => this.#claim(claim),
        report: async ({ reports }) => {
          this.reports.push(...reports)
          this.reportsInRequests.push(reports.length)
          await this.reportGate
          return { verdicts: reports.map((report) => this.verdict(report)) }
        },
      },
      notes: {
        heartbeat: ({ sentAt }) => {
          this.heartbeats.push(sentAt)
          if (this.answersBeats) this.session?.note('beat', { sentAt, heartbeatMs: this.heartbeatMs })
        },
        started: ({ attempts }) => void this.started.push(...attempts),
        uploading: ({ attempts }) => void this.uploading.push(...attempts),
        draining: ({ returned }) => {
          this.drained += 1
          this.returned.push(...returned)
        },
      },
    })
    return theirs
  }

  #claim(claim: Claim): Promise<ClaimAnswer> {
    this.claims.push(claim)
    this.#parked?.answer({ grants: [], jobs: [], held: [] })
    this.#parked = undefined
    return new Promise((resolve) => {
      this.#parked = { claim, answer: resolve }
      this.#serve()
    })
  }

  #serve(): void {
    const parked = this.#parked
    if (parked === undefined) return
    if (parked.claim.nodes.length > 0 && this.queue.length === 0 && this.held.length === 0) return
    this.#parked = undefined
    const slots = parked.claim.nodes.reduce((sum, node) => sum + node.room.slots + node.prefetchSlots, 0)
    const grants = parked.claim.nodes.length === 0 ? [] : this.queue.splice(0, this.byRoom ? Math.min(slots, 512) : 512)
    parked.answer({ grants, jobs: this.#brief(grants), held: this.held })
    this.held = []
  }

  #brief(grants: readonly Grant[]): JobBrief[] {
    const fresh = this.briefs.filter(({ jobUid }) => !this.#briefed.has(jobUid) && grants.some(({ attempt }) => attempt.jobUid === jobUid))
    for (const { jobUid } of fresh) this.#briefed.add(jobUid)
    return fresh
  }

  /** Gives tasks to the claim that waits, or to the next. */
  give(...grants: Grant[]): void {
    this.queue.push(...grants)
    this.#serve()
  }

  /** Answers the claim that waits with nothing. */
  dismiss(): void {
    this.#parked?.answer({ grants: [], jobs: [], held: [] })
    this.#parked = undefined
    this.dismissed += 1
  }

  /** Says that these nodes are held for a gang. */
  hold(...nodeIds: string[]): void {
    this.held = nodeIds
    this.#serve()
  }

  /** Cuts the connection. */
  cut(): void {
    this.channel?.close('lost')
  }

  reportOf(id: string, epoch = 1): Report | undefined {
    return this.reports.find((report) => attemptKey(report.attempt) === attemptKey(attemptOf(id, epoch)))
  }
}
