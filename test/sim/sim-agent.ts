/** An agent of the simulation: life after life over the same host, with nothing carried over. */
import { Agent } from '../../agent/agent.ts'
import type { AgentConfig } from '../../agent/config.ts'
import type { DirectoryWatcher, WatchEvent } from '../../shared/system.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { SimMetrics } from '../sim-system.ts'
import type { Dice } from './dice.ts'
import type { HostDisk } from './host-disk.ts'
import { HostFiles } from './host-files.ts'
import { Life, type WallClock } from './life.ts'
import type { SimNetwork } from './network.ts'
import type { Scheduler } from './scheduler.ts'
import type { Trace } from './trace.ts'

export interface SimAgentOptions {
  readonly name: string
  readonly agentId: string
  readonly scheduler: Scheduler
  readonly wall: WallClock
  readonly trace: Trace
  readonly network: SimNetwork
  readonly disk: HostDisk
  readonly dice: Dice
  readonly zstd: Zstd
  readonly hasEvents: boolean
  readonly hasShortReads: boolean
  /** Read at each start and during a life: faults end. */
  readonly readErrorChance: () => number
  readonly topic: string
}

const KIB = 1024

export class SimAgent {
  readonly name: string
  life: Life | undefined
  private readonly options: SimAgentOptions
  private agent: Agent | undefined
  private lives = 0
  private emit: (event: WatchEvent) => void = () => undefined

  constructor(options: SimAgentOptions) {
    this.name = options.name
    this.options = options
  }

  get isRunning(): boolean {
    return this.life?.isAlive === true
  }

  start(): void {
    if (this.isRunning) return
    const { scheduler, wall, dice, trace, network, disk, zstd, hasEvents } = this.options
    this.lives += 1
    const life = new Life({ name: `${this.name}/${this.lives}`, scheduler, wall })
    this.life = life
    trace.note(life.name, 'starts')
    const fs = new HostFiles({ disk, life, dice, hasShortReads: this.options.hasShortReads, errorChance: this.options.readErrorChance })
    const agent = new Agent({
      system: { clock: life.clock, random: dice.random(), fs, http: network.client(life), log: trace.log(life.name), metrics: new SimMetrics() },
      zstd, config: this.config(), token: () => undefined,
      ...(hasEvents ? { createWatcher: (onEvent) => this.watcher(onEvent) } : {}),
    })
    this.agent = agent
    agent.run().then(
      () => this.ended(life),
      (error: unknown) => {
        if (life.isAlive) trace.violation('agent', `${life.name} died: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
      },
    )
  }

  kill(): void {
    if (this.life?.isAlive !== true) return
    this.options.trace.note(this.life.name, 'is killed')
    this.life.kill()
  }

  /** SIGTERM. */
  stop(): void {
    if (this.life?.isAlive !== true) return
    this.options.trace.note(this.life.name, 'is asked to stop')
    this.agent?.stop()
  }

  /** The host says that something changed there; like inotify it may be late, and it may be lost. */
  changed(path: string): void {
    const { life } = this
    const { dice, scheduler } = this.options
    if (life?.isAlive !== true || dice.isHit(0.1)) return
    scheduler.in(dice.gap(3), () => {
      if (life.isAlive) this.emit({ path })
    })
  }

  /** How far it takes its streams for stored. */
  *beliefs(): Iterable<{ readonly id: string; readonly position: number }> {
    for (const { cursor } of this.agent?.registry.files ?? []) {
      if (cursor !== undefined) yield { id: cursor.stream.identity.idHex, position: cursor.stream.settled.position }
    }
  }

  /** What it believes of each file, for a trace. */
  describe(): void {
    for (const file of this.agent?.registry.files ?? []) {
      const { path, inode, state, cursor, isDetached, isListed, size, position } = file
      const stream = cursor?.stream
      const shipping = stream === undefined ? 'no stream' : `${stream.identity.idHex.slice(0, 8)} ${stream.state.kind}, stored to ${stream.settled.position}, ${stream.placeCount} on their way`
      const facts = `${isListed ? 'listed' : 'not listed'}, ${isDetached ? 'detached' : 'attached'}, descriptor ${file.handle === undefined ? 'no' : 'yes'}`
      this.options.trace.note(this.name, `${path} inode ${inode}: ${JSON.stringify(state)}, read to ${position} of ${size}, ${facts}; ${shipping}`)
    }
  }

  private ended(life: Life): void {
    const { trace, scheduler, dice } = this.options
    trace.note(life.name, 'has stopped')
    life.kill()
    // Whoever stopped it starts it again.
    scheduler.in(dice.gap(1_000), () => this.start())
  }

  private watcher(onEvent: (event: WatchEvent) => void): DirectoryWatcher {
    this.emit = onEvent
    return { watch: () => undefined, close: () => Promise.resolve() }
  }

  private config(): AgentConfig {
    return {
      collectorUrl: 'http://127.0.0.1:4280',
      inputs: [
        {
          topic: this.options.topic, files: ['/log/*.log'], exclude: ['*.gz'], startAt: 'beginning', ignoreOlderMs: undefined, followSymlinks: false,
        },
      ],
      agentId: this.options.agentId, host: this.options.agentId,
      lineBytesMax: 2 * KIB, batchBytesMax: 20 * KIB, lingerMs: 20, lingerMsMax: 250, memoryBytes: 1024 * KIB,
      unterminatedAfterMs: 30_000, rotateGraceMs: 10_000, sweepMs: 1000, isWatching: this.options.hasEvents, openFilesMax: 100,
      compressLevel: 1, rateLimitBytes: undefined, isOnce: false, isReship: false, isPrefixChecked: true,
    }
  }
}
