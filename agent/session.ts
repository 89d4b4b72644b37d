/**
 * The agent's standing with its collector: says hello before anything else, again after a connection was lost or the
 * log epoch has changed, pins the cluster id for the life of the process, and retries with full jitter. Callers share
 * one hello: whoever comes while it is under way waits for it.
 *
 * A refusal (wrong token, other cluster) can be put right over there, so it is asked again, but seldom; `refusal` says so
 * until something of the same kind is taken.
 */
import { AppError, toAppError } from '../shared/errors.ts'
import { retryDelayMs, type BackoffLimits } from '../shared/retry.ts'
import type { System } from '../shared/system.ts'
import type { CollectorClient, Greeting } from './collector-client.ts'
import { untilAborted } from './waker.ts'

export const retryLimits: BackoffLimits = { baseMs: 100, maxMs: 15_000 }
/** While nobody answers at all. A try costs little then and lines wait: 500 agents are 200 tries a second. */
const awayLimits: BackoffLimits = { baseMs: 100, maxMs: 5_000 }
/** As many doublings as reach the longest wait. */
export const REFUSED_ATTEMPT = 8

/** Between two hellos without a reason, for up to this many streams. */
const REFRESH_MS = 600_000
const REFRESH_STREAMS = 10_000

/** A greeting without its streams: whoever was greeted keeps of those what is needed. */
export type GreetingFacts = Omit<Greeting, 'streams'> & { readonly streamCount: number }

export type SessionState =
  | { readonly kind: 'not greeted' }
  | { readonly kind: 'connected'; readonly greeting: GreetingFacts }
  | { readonly kind: 'lost'; readonly reason: AppError }

/** What the collector will not take: who we are, what we ask about streams, or a whole request with batches. */
export type RefusedRequest = 'hello' | 'streams' | 'batches'

export class Session {
  state: SessionState = { kind: 'not greeted' }
  private readonly refusals = new Map<RefusedRequest, AppError>()
  private readonly system: System
  private readonly client: CollectorClient
  private readonly onGreeting: (greeting: Greeting) => void
  private pinnedClusterId: string | undefined
  private hello: Promise<void> | undefined
  private greetedAtMs = 0

  private readonly lifetime: AbortSignal

  /** `lifetime` ends a hello that is under way; callers of `ready` come and go. */
  constructor(options: { system: System; client: CollectorClient; lifetime: AbortSignal; onGreeting: (greeting: Greeting) => void }) {
    this.system = options.system
    this.client = options.client
    this.lifetime = options.lifetime
    this.onGreeting = options.onGreeting
  }

  /** Resolves once greeted. Rejects with ABORTED after the signal. */
  ready(signal: AbortSignal): Promise<void> {
    if (this.state.kind === 'connected') return Promise.resolve()
    this.hello ??= this.greetUntilAnswered(this.lifetime).finally(() => {
      this.hello = undefined
    })
    return untilAborted(this.hello, signal)
  }

  /** Why the collector will not go on with us, as we are; undefined while it does or is only away. */
  get refusal(): AppError | undefined {
    return [...this.refusals.values()][0]
  }

  refused(request: RefusedRequest, reason: AppError): void {
    const known = this.refusals.get(request)
    this.refusals.set(request, reason)
    if (known?.code === reason.code) return
    this.system.log.warn('the collector refuses', { request, code: reason.code, message: reason.message, hint: reason.hint })
  }

  accepted(request: RefusedRequest): void {
    this.refusals.delete(request)
  }

  /**
   * Says hello although nothing is wrong, when that was long ago: a collector whose folder was set back while nothing was
   * sent tells so only there. Many streams make a long hello, so it comes less often.
   */
  async refresh(signal: AbortSignal): Promise<void> {
    if (this.state.kind !== 'connected') return
    const everyMs = REFRESH_MS * Math.max(1, this.state.greeting.streamCount / REFRESH_STREAMS)
    if (this.system.clock.monotonicMs() - this.greetedAtMs < everyMs) return
    this.hello ??= this.greetUntilAnswered(this.lifetime).finally(() => {
      this.hello = undefined
    })
    await untilAborted(this.hello, signal)
  }

  /** The next `ready` says hello again. */
  lost(reason: AppError): void {
    if (this.state.kind === 'lost') return
    this.system.log.warn('lost the collector', { code: reason.code, message: reason.message })
    this.state = { kind: 'lost', reason }
  }

  /** Positions may have gone back: everything that we believe about them is asked again. */
  seesEpoch({ logEpoch, instance }: { logEpoch: number; instance?: string | undefined }): void {
    if (this.state.kind !== 'connected') return
    const { greeting } = this.state
    if (greeting.logEpoch !== logEpoch) this.lost(new AppError('REMOTE_ERROR', `the log epoch went from ${greeting.logEpoch} to ${logEpoch}`))
    // Started again without our noticing, perhaps on an older copy of its folder.
    else if (instance !== undefined && greeting.instance !== instance) this.lost(new AppError('REMOTE_ERROR', 'the collector was started again'))
  }

  /** Runs a request until it succeeds; rejects when the collector refuses it for good or the signal fires. */
  async call<T>(request: (client: CollectorClient) => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let attempt = 0; ; attempt += 1) {
      await this.ready(signal)
      try {
        return await request(this.client)
      } catch (thrown) {
        const error = toAppError(thrown)
        if (error.code === 'ABORTED' || !error.retryable) throw error
        if (isConnectionLoss(error)) this.lost(error)
        await this.pause(attempt, error, signal)
      }
    }
  }

  /** Ends only with an answer or the signal: a collector that is down for a week is waited for. */
  private async greetUntilAnswered(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      try {
        const greeting = await this.client.hello(signal)
        this.pin(greeting)
        const before = this.state
        const { streams, ...facts } = greeting
        this.state = { kind: 'connected', greeting: { ...facts, streamCount: streams.length } }
        this.greetedAtMs = this.system.clock.monotonicMs()
        this.accepted('hello')
        if (before.kind !== 'connected') this.system.log.info('connected to the collector', { clusterId: greeting.clusterId, logEpoch: greeting.logEpoch })
        this.onGreeting(greeting)
        return
      } catch (thrown) {
        const error = toAppError(thrown)
        if (error.code === 'ABORTED') throw error
        if (!error.retryable) this.refused('hello', error)
        else if (attempt === 0) this.system.log.warn('the collector does not greet', { code: error.code, message: error.message, hint: error.hint })
        this.state = { kind: 'lost', reason: error }
        await this.pause(error.retryable ? attempt : REFUSED_ATTEMPT, error, signal)
      }
    }
  }

  private pin(greeting: Greeting): void {
    this.pinnedClusterId ??= greeting.clusterId
    if (this.pinnedClusterId === greeting.clusterId) return
    throw new AppError('WRONG_CLUSTER', `the collector is cluster ${greeting.clusterId}, this agent began with ${this.pinnedClusterId}`, {
      hint: 'restart the agent if the collector was replaced on purpose',
    })
  }

  private async pause(attempt: number, error: AppError, signal: AbortSignal): Promise<void> {
    const { clock, random } = this.system
    const limits = error.code === 'CANNOT_CONNECT' ? awayLimits : retryLimits
    await clock.sleep(retryDelayMs({ attempt, retryAfterMs: error.retryAfterMs, random: random.next() }, limits), signal)
  }
}

/** Code, message and hint, for people. */
export function explainError({ code, message, hint }: { code: string; message: string; hint?: string | undefined }): string {
  return `${code}: ${message}${hint === undefined ? '' : `; ${hint}`}`
}

/** Errors after which the collector may have been restarted, so that a hello comes first. */
export function isConnectionLoss(error: AppError): boolean {
  return error.code === 'CANNOT_CONNECT' || error.code === 'UNKNOWN_OUTCOME'
}
