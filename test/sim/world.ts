/**
 * One run: machines, agents, a collector with its export, a network between them, and a director who breaks things until
 * quiet comes. Everything follows from the plan, so that a seed is a run.
 */
import type { CollectorConfig } from '../../collector/config.ts'
import { decodeSourceHeader } from '../../shared/source-header.ts'
import {
  batchesResponseSchema, decodeEnvelope, decodeFrames, helloResponseSchema, lookupResponseSchema, parseJson, paths, type HelloResponse,
} from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { SimFileSystem } from '../sim-fs.ts'
import { checkBegin, checkBeliefs } from './agent-check.ts'
import { Auditor, TOPIC, type Audited } from './auditor.ts'
import { Dice } from './dice.ts'
import { checkExports, STORE_ROOT } from './export-check.ts'
import { HostDisk } from './host-disk.ts'
import type { Kind } from './kinds.ts'
import { Ledger } from './ledger.ts'
import type { SentBatch } from './oracle.ts'
import type { WallClock } from './life.ts'
import { SimNetwork, type Exchange, type NetworkObserver } from './network.ts'
import type { Plan } from './plan.ts'
import { Scheduler } from './scheduler.ts'
import { SimAgent } from './sim-agent.ts'
import { SimCollector } from './sim-collector.ts'
import { Trace } from './trace.ts'
import { Writer } from './writer.ts'

export interface Host {
  readonly disk: HostDisk
  readonly agent: SimAgent
  readonly wall: WallClock
  readonly writers: Writer[]
}

export interface SetBack {
  /** Lives of agents that were told since how far the collector is now. */
  readonly greeted: Set<string>
  /** By host, when its agent first sent lines after that. */
  readonly caughtUpMs: Map<string, number>
}

const START_WALL_MS = Date.UTC(2026, 0, 1)

export class World implements NetworkObserver {
  readonly plan: Plan
  readonly scheduler = new Scheduler()
  readonly trace = new Trace(this.scheduler)
  readonly hosts: Host[] = []
  readonly ledger: Ledger
  readonly network: SimNetwork
  readonly disk: SimFileSystem
  readonly collector: SimCollector
  /** By life of an agent and stream. */
  readonly sentBatches = new Map<string, Map<string, SentBatch[]>>()
  readonly auditor: Auditor
  /** Disk faults that are on, or whose consequences may still come. */
  readonly diskTrouble = { until: 0, isSlow: false, readErrors: 0 }
  /** The collector came back from a backup. */
  setBack: SetBack | undefined
  /** Called once, when the collector has acknowledged something, or told a position of what it did not take just then. */
  afterAnswer: { readonly when: 'acknowledged' | 'told'; readonly call: () => void } | undefined
  private readonly zstd: Zstd
  private readonly wall: WallClock = { offsetMs: START_WALL_MS }

  constructor(plan: Plan, zstd: Zstd) {
    this.plan = plan
    this.zstd = zstd
    const { scheduler, trace } = this
    this.ledger = new Ledger({ zstd, trace, incarnations: () => this.hosts.flatMap(({ disk }) => disk.incarnations) })
    this.network = new SimNetwork({ scheduler, trace, dice: this.dice('network'), observer: this })
    this.network.state.delayMs = this.has('slow network') ? 120 : 3
    this.disk = new SimFileSystem({ nowMs: () => Math.floor(scheduler.nowMs + this.wall.offsetMs) })
    this.auditor = new Auditor({ ledger: this.ledger, trace, isSetBack: () => this.setBack !== undefined })
    this.collector = new SimCollector({
      scheduler, trace, zstd, network: this.network, wall: this.wall, disk: this.disk, dice: this.dice('collector'), auditor: this.auditor,
      syncMs: () => (this.has('slow disk') ? 60 : 6),
      config: this.collectorConfig(),
      mayFail: () => scheduler.nowMs < this.diskTrouble.until,
      onAudited: (audited) => this.audited(audited),
    })
    this.addHost('host0', 'host0')
    if (this.has('second host')) this.addHost('host1', 'host1')
  }

  has(kind: Kind): boolean {
    return this.plan.kinds.has(kind)
  }

  dice(concern: string): Dice {
    return new Dice(this.plan.seed, concern)
  }

  get isQuiet(): boolean {
    return this.collector.isServing && this.hosts.every(({ agent }) => agent.isRunning)
  }

  moveWall(wall: WallClock, byMs: number): void {
    this.trace.note('clock', `a wall clock jumps by ${byMs} ms`)
    wall.offsetMs += byMs
  }

  get walls(): readonly WallClock[] {
    return [this.wall, ...this.hosts.map(({ wall }) => wall)]
  }

  addHost(name: string, agentId: string, original?: Host): Host {
    const { scheduler, trace } = this
    const wall: WallClock = { offsetMs: START_WALL_MS + this.hosts.length * 1_234 }
    const disk: HostDisk = new HostDisk({
      name, nowMs: () => scheduler.nowMs, wallMs: () => Math.floor(scheduler.nowMs + wall.offsetMs),
      doesReuseInodes: this.has('inode reuse'), hasBirthTimes: !this.has('no birth times'),
      onChange: (path) => agent.changed(path),
    })
    const agent: SimAgent = new SimAgent({
      name: `agent-${name}`, agentId, scheduler, trace, wall, disk, topic: TOPIC, zstd: this.zstd, network: this.network,
      dice: this.dice(`agent ${name}`), hasEvents: !this.has('no events'), hasShortReads: this.has('short reads'),
      readErrorChance: () => this.diskTrouble.readErrors,
    })
    const host: Host = { disk, agent, wall, writers: [] }
    this.hosts.push(host)
    if (original === undefined) disk.makeDirectory('/log')
    else disk.copyFrom(original.disk)
    const count = original === undefined ? this.plan.writers : original.writers.length
    for (let number = 0; number < count; number += 1) {
      const dice = this.dice(`writer ${name} ${number}`)
      host.writers.push(
        new Writer({
          name: `${name}w${number}`, path: `/log/app${number}.log`, disk, dice, scheduler, trace,
          has: (kind) => this.has(kind), writeMs: this.plan.writeMs, rotateMs: this.plan.rotateMs,
        }),
      )
    }
    for (const writer of host.writers) writer.start()
    return host
  }

  private noteSent(exchange: Exchange): void {
    const streams = this.sentBatches.get(exchange.agentLife) ?? new Map<string, SentBatch[]>()
    this.sentBatches.set(exchange.agentLife, streams)
    const { disk, agent } = this.senderOf(exchange)
    for (const { envelope, batch } of decodeFrames(exchange.body)) {
      const source = decodeSourceHeader(decodeEnvelope(envelope).sourceHeader)
      const id = source.streamId.toString('hex')
      this.trace.note(exchange.agentLife, `sends ${id.slice(0, 8)} ${source.start}-${source.end}`)
      const sent = streams.get(id) ?? []
      if (sent.length === 0) checkBegin({ disk, source, trace: this.trace })
      streams.set(id, sent)
      sent.push({ atMs: this.scheduler.nowMs, end: source.end, batch })
    }
    checkBeliefs({ agent, ledger: this.ledger, trace: this.trace })
    const { setBack } = this
    if (setBack?.greeted.has(exchange.agentLife) === true && !setBack.caughtUpMs.has(disk.name)) setBack.caughtUpMs.set(disk.name, this.scheduler.nowMs)
  }

  private senderOf({ agentLife }: Exchange): Host {
    const host = this.hosts.find(({ agent }) => agentLife.startsWith(`${agent.name}/`))
    if (host === undefined) throw new Error(`nobody is called ${agentLife}`)
    return host
  }

  // What the network hears.

  sent(exchange: Exchange): void {
    if (exchange.path === paths.batches) this.noteSent(exchange)
  }

  answered(exchange: Exchange, status: number, body: Buffer): void {
    if (status !== 200) {
      this.trace.note('network', `${exchange.path} of ${exchange.agentLife} answered ${status}`)
      return
    }
    if (exchange.path === paths.batches) this.heardResults(body)
    if (exchange.path === paths.hello) {
      this.setBack?.greeted.add(exchange.agentLife)
      this.heardStreams(parseJson(helloResponseSchema, body.toString(), 'hello').streams, 'hello')
    }
    if (exchange.path === paths.lookup) {
      for (const { streams } of parseJson(lookupResponseSchema, body.toString(), 'lookup').files) this.heardStreams(streams, 'lookup')
    }
  }

  private heardStreams(streams: HelloResponse['streams'], how: string): void {
    for (const { id, position } of streams) this.ledger.hear(id, position, how)
    this.said('told')
  }

  private said(what: 'acknowledged' | 'told'): void {
    if (this.afterAnswer?.when !== what) return
    this.afterAnswer.call()
    this.afterAnswer = undefined
  }

  private heardResults(body: Buffer): void {
    for (const result of parseJson(batchesResponseSchema, body.toString(), 'batches').frames) {
      if (result.status === 'error') {
        this.trace.note('network', `a frame was refused: ${result.code} ${result.message}`)
        if (!result.retryable) this.trace.violation('refused', `${result.code}: ${result.message}`)
      } else if (result.status === 'ok') {
        this.ledger.hear(result.stream, result.end, 'ok')
        this.ledger.acks.set(`${result.partition}/${result.offset}`, { stream: result.stream, end: result.end, crc: result.crc })
        this.said('acknowledged')
      } else {
        this.ledger.hear(result.stream, result.position, result.status)
        this.said('told')
      }
    }
  }

  broke(error: Error): void {
    this.trace.violation('collector', error.stack ?? error.message)
  }

  private audited({ topic }: Audited): void {
    if (this.has('export')) checkExports({ disk: this.disk, ledger: this.ledger, trace: this.trace, topic, required: new Map() })
  }

  private collectorConfig(): CollectorConfig {
    const { plan } = this
    const isRetaining = this.has('retention') && this.has('export')
    return {
      dataDirectory: '/data', listen: { host: '127.0.0.1', port: 4280 },
      topicDefaults: {
        partitions: plan.partitions, segmentBytes: plan.segmentBytes, segmentAgeMs: this.has('small segments') ? 5_000 : 3_600_000,
        retentionBytes: isRetaining ? 3 * plan.segmentBytes : undefined, retentionAgeMs: undefined,
      },
      autoCreateTopics: true,
      export: this.has('export') ? { url: `file://${STORE_ROOT}`, caFile: undefined, parallel: 2, store: {} } : undefined,
      hasTokens: false, tls: undefined, adminNames: [], readNames: [], allowedHosts: [],
      memoryBytes: 32 * 1024 * 1024, maxConnections: 100, drainMs: 1_000, acceptDuplicates: false, logLevel: 'debug',
    }
  }
}
