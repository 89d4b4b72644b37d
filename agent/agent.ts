/**
 * The agent: separate loops for discovery, identity, reading and sending, tied together here. It keeps no state on disk:
 * the log files are its buffer and the collector knows the positions. Everything it holds is bounded by `memory`, by
 * `openFilesMax` and by what the watcher takes in.
 */
import { BufferPool } from '../shared/buffer-pool.ts'
import { toAppError } from '../shared/errors.ts'
import type { DirectoryWatcher, System, WatchEvent } from '../shared/system.ts'
import { wireLimits } from '../shared/wire.ts'
import type { Zstd } from '../shared/zstd.ts'
import { AckedPositions } from './acked-positions.ts'
import { Batcher } from './batcher.ts'
import { ByteBudget } from './byte-budget.ts'
import { CollectorClient, type Greeting } from './collector-client.ts'
import type { AgentConfig } from './config.ts'
import { Follower } from './follower.ts'
import { compileGlobs } from './globs.ts'
import { Handles } from './handles.ts'
import { Identifier } from './identifier.ts'
import { PrefixCheck } from './prefix-check.ts'
import { Reader } from './reader.ts'
import { Registry } from './registry.ts'
import { explainError, Session } from './session.ts'
import { Shipper } from './shipper.ts'
import { Slots } from './slots.ts'
import { Watcher } from './watcher.ts'
import { sleepQuietly } from './waker.ts'

export interface AgentDeps {
  readonly system: System
  readonly zstd: Zstd
  readonly config: AgentConfig
  readonly token: () => string | undefined
  /** Processors that this process may use. Default 2. */
  readonly cores?: number
  /** Absent: the sweep works alone. */
  readonly createWatcher?: (onEvent: (event: WatchEvent) => void) => DirectoryWatcher
}

/** What `--once` could not do. */
export interface OnceResult {
  readonly problems: readonly string[]
}

const DRAIN_MS = 10_000
const ONCE_POLL_MS = 10
/** `--once` is for scripts: a collector that is away for longer than this ends it. */
const ONCE_UNREACHABLE_MS = 30_000

export class Agent {
  readonly registry: Registry
  readonly session: Session
  readonly follower: Follower
  private readonly deps: AgentDeps
  private readonly client: CollectorClient
  private readonly identifier: Identifier
  private readonly handles: Handles
  private readonly reader: Reader
  private readonly shipper: Shipper
  private readonly prefixCheck: PrefixCheck | undefined
  private readonly budget: ByteBudget
  private readonly buffers: BufferPool
  private readonly acked: AckedPositions
  /** Ends discovery, identity and reading. */
  private readonly stopReading = new AbortController()
  /** Ends sending too. */
  private readonly stopAll = new AbortController()

  constructor(deps: AgentDeps) {
    const { system, config } = deps
    this.deps = deps
    const { agentId, host } = config
    this.client = new CollectorClient(system.http, {
      url: config.collectorUrl,
      agentId,
      host,
      session: system.random.bytes(16).toString('hex'),
      token: deps.token,
    })
    this.budget = new ByteBudget(config.memoryBytes)
    this.buffers = new BufferPool(config.memoryBytes / 2)
    this.registry = new Registry(config)
    this.acked = new AckedPositions(system.clock)
    this.handles = new Handles(system, config.openFilesMax)
    this.session = new Session({ system, client: this.client, lifetime: this.stopAll.signal, onGreeting: (greeting) => this.greeted(greeting) })
    this.identifier = new Identifier({
      system, session: this.session, registry: this.registry, handles: this.handles,
      agentId, isReship: config.isReship, isOnce: config.isOnce,
      onAdopted: (file) => this.prefixCheck?.adopted(file),
    })
    this.shipper = new Shipper({
      buffers: this.buffers,
      system, session: this.session, budget: this.budget,
      events: {
        settled: (stream) => {
          this.acked.settled(stream)
          this.follower.settled(stream)
        },
        stopped: (stream) => this.follower.stopped(stream),
      },
    })
    this.reader = this.createReader()
    this.follower = this.createFollower()
    this.prefixCheck = this.createPrefixCheck()
  }

  private createReader(): Reader {
    const { system, config, zstd } = this.deps
    const { agentId, host, batchBytesMax, lineBytesMax, compressLevel } = config
    const sealedBytesMax = wireLimits.batchBytesMax
    return new Reader({
      system,
      batcher: new Batcher(zstd, { agentId, host, batchBytesMax, sealedBytesMax, lineBytesMax, compressLevel, buffers: this.buffers }),
      budget: this.budget,
      slots: new Slots(this.budget, { batchBytesMax, cores: this.deps.cores ?? 2 }),
      buffers: this.buffers,
      handles: this.handles,
      pace: config,
      rateLimitBytes: config.rateLimitBytes,
      isOnce: config.isOnce,
      isConnected: () => this.session.state.kind === 'connected',
      events: {
        changed: (file, how) => this.follower.changed(file, how),
        missing: (file) => this.follower.vanished(file),
        sealed: (stream) => this.shipper.offer(stream),
        advanced: (file) => this.registry.wake(file),
      },
    })
  }

  private createFollower(): Follower {
    const { system, config, createWatcher } = this.deps
    const globs = config.inputs.map(compileGlobs)
    return new Follower({
      system, config, budget: this.budget, registry: this.registry, session: this.session, handles: this.handles,
      reader: this.reader, identifier: this.identifier, watcher: new Watcher(system, globs),
      ...(createWatcher === undefined || !config.isWatching ? {} : { createWatcher }),
    })
  }

  /** `--once` has ended before there is an answer that could change anything. */
  private createPrefixCheck(): PrefixCheck | undefined {
    const { system, config } = this.deps
    if (!config.isPrefixChecked || config.isOnce) return undefined
    return new PrefixCheck({
      system, session: this.session, handles: this.handles, registry: this.registry,
      isShipping: () => !this.reader.isIdle,
      onDifference: (file, stream, range) => this.follower.refuted(file, stream, range),
    })
  }

  get bufferedBytes(): number {
    return this.budget.usedBytes
  }

  /** Follows until `stop`; with `isOnce` until everything that is there is stored. */
  async run(): Promise<OnceResult> {
    const { signal } = this.stopReading
    const reading = Promise.all([this.follower.run(signal), this.reader.run(signal), this.prefixCheck?.run(signal)])
    const sending = this.shipper.run(this.client, this.stopAll.signal)
    try {
      const ended = this.deps.config.isOnce ? this.untilShipped() : this.untilStopped()
      // A loop that fails is a bug: the process dies of it.
      const problems = await Promise.race([ended, Promise.all([reading, sending]).then((): string[] => [])])
      this.stopReading.abort()
      await reading
      await this.drain()
      this.stopAll.abort()
      await sending
      return { problems }
    } finally {
      this.stopReading.abort()
      this.stopAll.abort()
      await this.handles.closeAll()
    }
  }

  private untilStopped(): Promise<string[]> {
    const { signal } = this.stopReading
    return new Promise((resolve) => {
      if (signal.aborted) resolve([])
      signal.addEventListener('abort', () => resolve([]), { once: true })
    })
  }

  /** Stops reading at once; what was sealed is sent for at most 10 s. Nothing is at risk if this is cut short. */
  stop(): void {
    this.stopReading.abort()
  }

  /** Rotated or deleted files whose bytes only our descriptors still reach. */
  get heldForRotation(): number {
    let count = 0
    for (const file of this.registry.files) if (file.isDetached && !file.isShipped) count += 1
    return count
  }

  private async drain(): Promise<void> {
    const { clock } = this.deps.system
    const deadlineMs = clock.monotonicMs() + DRAIN_MS
    while (!this.isDrained() && this.session.state.kind === 'connected' && this.session.refusal === undefined && clock.monotonicMs() < deadlineMs) {
      await clock.sleep(ONCE_POLL_MS)
    }
  }

  private isDrained(): boolean {
    return this.registry.orphans.size === 0 && [...this.registry.files].every((file) => file.cursor?.stream.isIdle ?? true)
  }

  private async untilShipped(): Promise<string[]> {
    const { clock } = this.deps.system
    let lastConnectedMs = clock.monotonicMs()
    while (await sleepQuietly(clock, ONCE_POLL_MS, this.stopReading.signal)) {
      if (this.session.state.kind === 'connected') lastConnectedMs = clock.monotonicMs()
      if (clock.monotonicMs() - lastConnectedMs > ONCE_UNREACHABLE_MS) return [this.unreachable()]
      const { refusal } = this.session
      if (refusal !== undefined) return [`the collector at ${this.deps.config.collectorUrl} refuses: ${explainError(refusal)}`, ...this.follower.problems()]
      if (this.follower.isAtEnd && this.reader.isIdle && this.isDrained() && this.follower.isAtEnd) return this.follower.problems()
    }
    return ['stopped before everything was shipped']
  }

  private unreachable(): string {
    const { state } = this.session
    const reason = state.kind === 'lost' ? state.reason.message : 'no answer'
    return `the collector at ${this.deps.config.collectorUrl} can not be reached: ${reason}`
  }

  /** What the collector knows is the truth; where it forgot something of ours, we begin again from there. */
  private greeted(greeting: Greeting): void {
    this.identifier.learn(greeting.streams)
    this.follower.greeted(greeting)
    for (const streams of this.acked.greeted(greeting)) {
      void this.client.tell(streams, this.stopAll.signal).catch((error: unknown) => {
        // An older collector does not ask for it; another one hears it at the next greeting.
        this.deps.system.log.debug('could not tell what was acknowledged', { error: toAppError(error).message })
      })
    }
  }
}
