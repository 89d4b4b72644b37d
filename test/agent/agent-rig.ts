/** An agent on a simulated machine: virtual time, a disk in memory, a collector in memory. */
import { Agent, type OnceResult } from '../../agent/agent.ts'
import type { AgentConfig } from '../../agent/config.ts'
import type { DirectoryWatcher, WatchEvent } from '../../shared/system.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { SimFileSystem } from '../sim-fs.ts'
import { simulate, type Simulation } from '../sim-system.ts'
import { FakeCollector } from './fake-collector.ts'

export interface RigOptions {
  readonly zstd: Zstd
  readonly config?: Partial<AgentConfig>
  readonly input?: Partial<AgentConfig['inputs'][number]>
  /** To go on with what an earlier agent left behind. */
  readonly fs?: SimFileSystem
  readonly collector?: FakeCollector
  readonly seed?: number
}

export const excludeDefaults = ['*.gz', '*.zst', '*.xz', '*.bz2', '*.journal', '*.journal~', 'wtmp', 'btmp', 'lastlog']

export function testConfig(options: Pick<RigOptions, 'config' | 'input'> = {}): AgentConfig {
  return {
    collectorUrl: 'http://collector',
    inputs: [
      { topic: 'app', files: ['/log/*.log'], exclude: excludeDefaults, startAt: 'beginning', ignoreOlderMs: undefined, followSymlinks: false, ...options.input },
    ],
    agentId: 'agent-1',
    host: 'host-1',
    lineBytesMax: 32 * 1024,
    batchBytesMax: 64 * 1024,
    lingerMs: 20,
    lingerMsMax: 250,
    memoryBytes: 4 * 1024 * 1024,
    unterminatedAfterMs: 30_000,
    rotateGraceMs: 10_000,
    sweepMs: 1000,
    isWatching: true,
    isPrefixChecked: true,
    openFilesMax: 100,
    compressLevel: 1,
    rateLimitBytes: undefined,
    isOnce: false,
    isReship: false,
    ...options.config,
  }
}

export class AgentRig {
  readonly sim: Simulation
  readonly fs: SimFileSystem
  readonly collector: FakeCollector
  readonly agent: Agent
  /** Directories that the agent asked to be watched. */
  watched: readonly string[] = []
  /** Nothing is told of any more. */
  isSilent = false
  private emit: (event: WatchEvent) => void = () => undefined
  private ended: Promise<OnceResult> | undefined

  constructor(options: RigOptions) {
    this.collector = options.collector ?? new FakeCollector(options.zstd)
    this.sim = simulate({ http: this.collector, ...(options.fs === undefined ? {} : { fs: options.fs }), ...(options.seed === undefined ? {} : { seed: options.seed }) })
    this.fs = this.sim.fs
    this.collector.nowMs = () => this.sim.clock.nowMs()
    this.agent = new Agent({
      system: this.sim.system,
      zstd: options.zstd,
      config: testConfig(options),
      token: () => undefined,
      createWatcher: (onEvent) => this.createWatcher(onEvent),
    })
  }

  private createWatcher(onEvent: (event: WatchEvent) => void): DirectoryWatcher {
    this.emit = (event) => {
      if (!this.isSilent) onEvent(event)
    }
    return {
      watch: (directories) => {
        this.watched = directories
      },
      close: async () => {
        await Promise.resolve()
      },
    }
  }

  /** Begins to run and lets the first sweep pass. */
  async start(): Promise<this> {
    this.ended = this.agent.run()
    await this.pass(100)
    return this
  }

  async stop(): Promise<OnceResult> {
    this.agent.stop()
    return this.finish()
  }

  /** Until the agent has ended by itself, or an hour has passed. */
  async finish(): Promise<OnceResult> {
    this.ended ??= this.agent.run()
    let hasEnded = false
    const watched = this.ended.finally(() => {
      hasEnded = true
    })
    // Seen by the second await at the latest; this one only keeps it from being called unhandled meanwhile.
    watched.catch(() => undefined)
    for (let step = 0; step < 3600 && !hasEnded; step += 1) await this.sim.clock.advance(1000)
    if (!hasEnded) throw new Error('the agent did not end')
    return watched
  }

  async pass(ms: number): Promise<void> {
    // In small steps, so that work that needs several turns of the event loop is done near its time.
    for (let left = ms; left > 0; left -= 100) await this.sim.clock.advance(Math.min(100, left))
  }

  /** Bytes at the end of a file, and the event for it. */
  async append(path: string, text: string | Buffer): Promise<void> {
    const handle = await this.fs.open(path, 'readWriteCreate')
    const { size } = await handle.stat()
    await handle.write([Buffer.from(text)], size)
    await handle.close()
    this.emit({ path })
  }

  async truncate(path: string): Promise<void> {
    const handle = await this.fs.open(path, 'readWrite')
    await handle.truncate(0)
    await handle.close()
    this.emit({ path })
  }

  async rename(from: string, to: string): Promise<void> {
    await this.fs.rename(from, to)
    this.emit({ path: from })
    this.emit({ path: to })
  }

  async remove(path: string): Promise<void> {
    await this.fs.remove(path)
    this.emit({ path })
  }

  async copy(from: string, to: string): Promise<void> {
    const handle = await this.fs.open(to, 'truncateWrite')
    await handle.write([this.fs.getFile(from) ?? Buffer.alloc(0)], 0)
    await handle.close()
    this.emit({ path: to })
  }
}
