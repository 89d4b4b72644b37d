/**
 * An agent that follows files while they are written, its collector, and a reader at the other end; with a watcher
 * between the two where acks are wanted. The agent on core 0, the collector on core 1, writer and reader in this process.
 */
import { join } from 'node:path'
import { AckWatcher } from './ack-watcher.ts'
import { startAgent } from './agent-process.ts'
import { startCollector, type CollectorProcess } from './collector-process.ts'
import { Latencies } from './latencies.ts'
import { accessLines } from './lines.ts'
import { Load } from './load.ts'
import type { Program } from './programs.ts'
import { SequenceCounter } from './sequence-counter.ts'
import { TailReader } from './tail-reader.ts'
import type { BenchOptions } from './workload.ts'

export interface LiveRigOptions {
  readonly folder: string
  readonly bench: BenchOptions
  /** Files that the load goes to. */
  readonly paths: readonly string[]
  /** What the agent follows. */
  readonly globs: readonly string[]
  readonly linesMax: number
}

export const TOPIC = 'bench'

export class LiveRig {
  readonly data: string
  readonly load: Load
  readonly collector: CollectorProcess
  readonly counter: SequenceCounter
  readonly readable: Latencies
  readonly acked: Latencies
  private readonly options: LiveRigOptions
  private watcher: AckWatcher | undefined
  private agentProgram: Program | undefined
  private reader: TailReader | undefined

  private constructor(options: LiveRigOptions, data: string, collector: CollectorProcess) {
    this.options = options
    this.data = data
    this.collector = collector
    this.readable = new Latencies(options.linesMax)
    this.acked = new Latencies(options.linesMax)
    this.counter = new SequenceCounter(options.linesMax, (sequence) => this.readable.saw(sequence, performance.now()))
    this.load = new Load({
      paths: options.paths, linesPerSecond: options.bench.linesPerSecond, make: accessLines(),
      wrote: (sequence, atMs) => {
        this.readable.wrote(sequence, atMs)
        this.acked.wrote(sequence, atMs)
      },
    })
  }

  static async start(options: LiveRigOptions): Promise<LiveRig> {
    const data = join(options.folder, 'data')
    return new LiveRig(options, data, await startCollector({ data, core: 1, args: options.bench.collectorArgs }))
  }

  get agent(): Program {
    if (this.agentProgram === undefined) throw new Error('the agent was not started')
    return this.agentProgram
  }

  /** Of the way between agent and collector; only with a watcher. */
  get wireBytes(): number {
    return this.watcher?.wireBytes ?? Number.NaN
  }

  async startAgent({ isWatched }: { isWatched: boolean }): Promise<void> {
    if (isWatched) {
      this.watcher = new AckWatcher({
        collectorPort: this.collector.port,
        acked: (path, position) => this.load.settled(path, position, (sequence) => this.acked.saw(sequence, performance.now())),
      })
    }
    const url = (await this.watcher?.listen()) ?? this.collector.url
    this.agentProgram = startAgent({ collectorUrl: url, topic: TOPIC, core: 0, args: [...this.options.bench.agentArgs, ...this.options.globs] })
  }

  /** The topic begins with a line in each file; from then on the reader follows. */
  async startReader(): Promise<void> {
    for (let at = 0; at < this.options.paths.length; at += 1) this.load.write(at, 1)
    this.reader = await TailReader.open(this.collector.url, TOPIC, this.counter)
  }

  /** Throws when the reader saw its tail end: latencies and losses would not be those of the product. */
  checkReader(): void {
    this.reader?.check()
  }

  async close(): Promise<void> {
    this.reader?.close()
    this.load.close()
    await this.agentProgram?.stop()
    this.watcher?.close()
    await this.collector.program.stop()
  }
}
