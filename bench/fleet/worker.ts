/**
 * A worker that only pretends to run: it speaks the lease protocol over a real channel, claims by the real rules
 * (node/intake.ts), and a task of it is a timer. Timers of one length are one list in Node, so thousands cost little.
 */
import { type Ask, nextMean, outdated, planClaim } from '../../node/intake.ts'
import { type Attempt, attemptKey } from '../../protocols/ids.ts'
import { type ClaimAnswer, type LeasesProtocol, leasesProtocol, type Report } from '../../protocols/leases.ts'
import { parkMs } from '../../protocols/offers.ts'
import { clientSession, type Session } from '../../protocols/rpc.ts'
import type { Channel } from '../../protocols/wire.ts'

export interface WorkerOptions {
  name: string
  slots: number
  /** How long each task takes; 0: none is waited for, all granted are reported at once. */
  taskMs: number
  /** Told of each start, in ms of the process's clock. */
  started?: (at: number) => void
  ended?: (at: number) => void
  /** Instead of what the coordinator asks for. */
  beatMs?: number
  /** From a heartbeat to its answer. */
  beat?: (roundTripMs: number) => void
}

/** As the real worker's reporter: gathered so long, so many at once. */
const gatherMs = 5
const maxReports = 512
const maxUnderWay = 2
/** As the real worker's claimer: a claim that stands is not replaced sooner. */
const replaceMs = 20

export class SimulatedWorker {
  readonly #options: WorkerOptions
  readonly #session: Session<LeasesProtocol['server'], LeasesProtocol['client']>
  #nodeId = ''
  #line: Attempt[] = []
  #running = 0
  #meanMs: number | undefined
  #standing: { asks: Ask[]; since: number } | undefined
  #claims = 0
  #reports: Report[] = []
  #begun: (Attempt & { startTime: number })[] = []
  #underWay = 0
  #flushing = false
  #beating: NodeJS.Timeout | undefined
  #heartbeatMs = 0

  constructor(channel: Channel, options: WorkerOptions) {
    this.#options = options
    this.#session = clientSession(leasesProtocol, channel, {
      calls: {
        retract: ({ attempts }) => ({ retracted: this.#retract(attempts) }),
        reserve: () => ({ granted: false, draining: false }),
      },
      notes: {
        beat: ({ sentAt, heartbeatMs }) => {
          this.#heartbeatMs = options.beatMs ?? heartbeatMs
          options.beat?.(performance.now() - sentAt)
        },
        grant: () => {},
        stop: () => {},
        release: () => {},
        forget: () => {},
      },
    })
  }

  get slots(): number {
    return this.#options.slots
  }

  async hello(): Promise<void> {
    const { slots: cores, name } = this.#options
    const about = {
      class: 'dedicated' as const,
      diskFreeMiB: 1,
      labels: {},
      os: 'linux',
      arch: 'x64',
      version: '0',
      addresses: [],
      nodeRootDir: '/',
    }
    const machine = { ...about, name, capacity: { cores, memoryMiB: 4096, gpus: 0 }, isolation: 'process-group' as const }
    const welcome = await this.#session.call('hello', { machine, incarnation: Date.now(), inventory: [], reservations: [], ownerEpoch: 0 })
    // A machine without slots has no node.
    this.#nodeId = welcome.nodes[0]?.nodeId ?? ''
    this.#heartbeatMs = this.#options.beatMs ?? welcome.heartbeatMs
    // Machines do not come up together.
    this.#beating = setTimeout(() => this.#beat(), Math.random() * this.#heartbeatMs)
    this.#think()
  }

  close(): void {
    clearTimeout(this.#beating)
    this.#session.close()
  }

  #beat(): void {
    if (this.#session.isClosed) return
    this.#beating = setTimeout(() => this.#beat(), this.#heartbeatMs * (0.9 + Math.random() * 0.1))
    this.#session.note('heartbeat', { sentAt: performance.now(), diskFreeMiB: 1 })
  }

  #think(): void {
    if (this.#session.isClosed) return
    const { slots } = this.#options
    const free = slots - this.#running
    const unstarted = this.#line.map(() => ({ slots: 1, demand: {}, passed: 0 }))
    const room = { slots: free, cores: free, memoryMiB: 4096, gpus: 0 }
    const asks = planClaim([{ nodeId: this.#nodeId, room, slots, held: false, closed: false, unstarted, meanSlotMs: this.#meanMs }])
    if (this.#standing === undefined) {
      if (asks.length > 0) void this.#claim(asks)
      return
    }
    if (!outdated(this.#standing.asks, asks)) return
    const ageMs = performance.now() - this.#standing.since
    if (ageMs < replaceMs) setTimeout(() => this.#think(), replaceMs - ageMs)
    else void this.#claim(asks)
  }

  async #claim(asks: Ask[]): Promise<void> {
    const standing = { asks, since: performance.now() }
    this.#standing = standing
    this.#claims += 1
    let answer: ClaimAnswer | undefined
    try {
      const waitMs = asks.length === 0 ? 0 : parkMs
      answer = await this.#session.call('claim', { requestId: String(this.#claims), nodes: asks, waitMs }, { timeoutMs: parkMs * 3 })
    } catch (error) {
      if (!this.#session.isClosed) throw error
    }
    if (this.#standing === standing) this.#standing = undefined
    for (const { attempt } of answer?.grants ?? []) this.#line.push(attempt)
    this.#start()
    this.#think()
  }

  #start(): void {
    const { slots, taskMs } = this.#options
    const at = performance.now()
    while (this.#line.length > 0 && (this.#running < slots || taskMs === 0)) {
      const attempt = this.#line.shift()!
      const startTime = Date.now()
      if (taskMs === 0) {
        this.#meanMs = 0
        this.#end(attempt, startTime)
        continue
      }
      this.#options.started?.(at)
      this.#running += 1
      this.#begun.push({ ...attempt, startTime })
      this.#flushSoon()
      setTimeout(() => this.#ended(attempt, startTime, at), taskMs)
    }
  }

  #ended(attempt: Attempt, startTime: number, startedAt: number): void {
    const at = performance.now()
    this.#options.ended?.(at)
    this.#running -= 1
    this.#meanMs = nextMean(this.#meanMs, at - startedAt)
    this.#end(attempt, startTime)
    this.#start()
    this.#think()
  }

  #end(attempt: Attempt, startTime: number): void {
    this.#reports.push({ attempt, outcome: { exitCode: 0, startTime, endTime: Date.now() } })
    this.#flushSoon()
  }

  #flushSoon(): void {
    if (this.#flushing) return
    this.#flushing = true
    setTimeout(() => this.#flush(), gatherMs)
  }

  #flush(): void {
    this.#flushing = false
    if (this.#begun.length > 0) this.#session.note('started', { attempts: this.#begun.splice(0) })
    while (this.#reports.length > 0 && this.#underWay < maxUnderWay && !this.#session.isClosed) {
      this.#underWay += 1
      this.#session
        .call('report', { reports: this.#reports.splice(0, maxReports) })
        .then(
          () => {},
          (error: unknown) => {
            if (!this.#session.isClosed) throw error
          },
        )
        .finally(() => {
          this.#underWay -= 1
          this.#flush()
        })
    }
  }

  #retract(attempts: readonly Attempt[]): Attempt[] {
    const keys = new Set(attempts.map(attemptKey))
    const back = this.#line.filter((attempt) => keys.has(attemptKey(attempt)))
    this.#line = this.#line.filter((attempt) => !keys.has(attemptKey(attempt)))
    return back
  }
}
