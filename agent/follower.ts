/**
 * Follows the set of files: sweeps, has new files identified, sees rotated ones to their end, closes their streams, and
 * acts on what the reader and the shipper report. Two loops: sweeping never waits for the network, so that descriptors
 * are taken in time while the collector is away; identity does.
 */
import { toAppError } from '../shared/errors.ts'
import { backoffMs } from '../shared/retry.ts'
import type { Counter, DirectoryWatcher, Gauge, System, WatchEvent } from '../shared/system.ts'
import type { ByteBudget } from './byte-budget.ts'
import type { Greeting } from './collector-client.ts'
import type { AgentConfig } from './config.ts'
import { Glances } from './glances.ts'
import { parentOf } from './globs.ts'
import { COOL_AFTER_MS, HotDirectories } from './hot-directories.ts'
import type { Handles } from './handles.ts'
import type { Identifier } from './identifier.ts'
import { LeftOut } from './left-out.ts'
import { Looks } from './looks.ts'
import type { Reader } from './reader.ts'
import type { Registry } from './registry.ts'
import { rescue } from './rescue.ts'
import type { Session } from './session.ts'
import { NEW, type SourceFile } from './source-file.ts'
import type { Stream } from './stream.ts'
import { SweepPace } from './sweep-pace.ts'
import { tend } from './tending.ts'
import { sleepQuietly, Waker } from './waker.ts'
import type { Watcher } from './watcher.ts'

/** An event for an unknown name is looked into at once, but not more often than this. */
const EVENT_MS = 50
/** `--once` has somebody waiting. */
const ONCE_TICK_MS = 50
/** Files that are looked at in every sweep while some directory is too busy to be watched. */
const LOOK_AT_ALL_MAX = 2000
const CLOSES_AT_A_TIME = 1000
/** After a refusal for good: somebody has to put it right first. */
const REFUSED_WAIT_MS = 10_000

export interface FollowerDeps {
  readonly system: System
  readonly config: AgentConfig
  readonly budget: ByteBudget
  readonly registry: Registry
  readonly session: Session
  readonly handles: Handles
  readonly reader: Reader
  readonly identifier: Identifier
  readonly watcher: Watcher
  readonly createWatcher?: (onEvent: (event: WatchEvent) => void) => DirectoryWatcher
}

export class Follower {
  leftOut = new LeftOut()
  private readonly deps: FollowerDeps
  private readonly sweepWaker: Waker
  private readonly identifyWaker: Waker
  private readonly topics: readonly string[]
  private isSweepWanted = true
  private readonly glances: Glances
  private sweeps = 0
  private readonly pace: SweepPace
  private readonly looks: Looks
  /** Wall clock, since birth times are held against it. */
  private startedMs = Number.POSITIVE_INFINITY
  private logEpoch: number | undefined
  private isIdentifying = false
  /** Searches among siblings that are under way. */
  private rescues = 0
  private readonly hot = new HotDirectories()
  private directories: readonly string[] = []
  private directoryWatcher: DirectoryWatcher | undefined
  private readonly rescueDirectories = new Set<string>()
  private lost: SourceFile[] = []
  private closing: { id: string; position: number }[] = []
  private readonly truncations: Counter
  private readonly lostBytes: Counter
  private readonly moves: Counter
  private readonly fileCount: Gauge
  private readonly lagBytes: Gauge

  constructor(deps: FollowerDeps) {
    const { metrics, clock } = deps.system
    this.deps = deps
    this.sweepWaker = new Waker(clock)
    this.identifyWaker = new Waker(clock)
    this.glances = new Glances({ ...deps, onAppeared: (file) => this.appeared(file) })
    this.pace = new SweepPace(this.tickMs)
    this.looks = new Looks({
      ...deps, pace: this.pace,
      onCut: (file) => this.changed(file, 'shrunk'),
      onLost: (file) => this.rescueDirectories.add(parentOf(file.path)),
      onVanished: (file) => this.vanished(file),
    })
    this.topics = [...new Set(deps.config.inputs.map((input) => input.topic))]
    this.truncations = metrics.counter('tailrace_agent_truncations_total', 'Files that shrank or whose content changed', ['how'])
    this.lostBytes = metrics.counter('tailrace_agent_lost_bytes_total', 'Bytes that were seen and could not be read before they were gone')
    this.moves = metrics.counter('tailrace_agent_positions_refused_total', 'Streams whose position at the collector was not ours', ['reason'])
    this.fileCount = metrics.gauge('tailrace_agent_files', 'Files followed')
    this.lagBytes = metrics.gauge('tailrace_agent_lag_bytes', 'Bytes of followed files that are not acked yet')
  }

  private get tickMs(): number {
    const { sweepMs, isOnce } = this.deps.config
    return isOnce ? Math.min(ONCE_TICK_MS, sweepMs) : sweepMs
  }

  /** Nothing more to find, to identify or to read to its end; for `--once`. */
  get isAtEnd(): boolean {
    if (this.sweeps === 0 || this.isIdentifying || this.rescues > 0 || this.closing.length > 0 || this.rescueDirectories.size > 0) return false
    for (const file of this.deps.registry.files) {
      if (file.state.kind === 'new' || file.state.kind === 'waiting') return false
      if (file.state.kind === 'reading' && !file.isShipped) return false
    }
    return true
  }

  /** What `--once` has to report: every wanted file that was not shipped whole. */
  problems(): string[] {
    const problems: string[] = []
    for (const { path, state } of this.deps.registry.files) {
      if (state.kind === 'failing' || state.kind === 'parked') problems.push(`${path}: ${state.reason}`)
    }
    return problems
  }

  async run(signal: AbortSignal): Promise<void> {
    this.startedMs = this.deps.system.clock.nowMs()
    this.directoryWatcher = this.deps.createWatcher?.((event) => this.noticed(event))
    try {
      await Promise.all([this.sweepLoop(signal), this.identifyLoop(signal)])
    } finally {
      await this.directoryWatcher?.close()
    }
  }

  // Discovery.

  private async sweepLoop(signal: AbortSignal): Promise<void> {
    const { clock } = this.deps.system
    while (!signal.aborted) {
      this.coolDown()
      if (this.sweeps > 0 && (await this.glances.needSweep())) this.isSweepWanted = true
      const isDue = this.isSweepWanted || this.mustLookAtAll || this.pace.isFullSweepDue(clock.monotonicMs()) || (await this.deps.watcher.hasChanged())
      if (isDue) await this.sweep()
      this.sweeps += 1
      if (this.deps.session.state.kind !== 'connected') await this.rescueLost()
      await this.tendFiles()
      this.identifyWaker.wake()
      await this.untilNextTick(signal)
    }
  }

  /** A whole tick, unless an event came: then as long as it takes to leave a gap. */
  private async untilNextTick(signal: AbortSignal): Promise<void> {
    const { clock } = this.deps.system
    const tickedMs = clock.monotonicMs()
    if (!this.isSweepWanted && this.glances.isEmpty) await this.sweepWaker.wait(this.tickMs, signal)
    const gapMs = Math.max(tickedMs + EVENT_MS, this.isSweepWanted ? this.pace.wantedSweepAtMs : 0) - clock.monotonicMs()
    if (!signal.aborted && gapMs > 0) await sleepQuietly(clock, gapMs, signal)
  }

  private async sweep(): Promise<void> {
    const { registry, reader, system } = this.deps
    this.isSweepWanted = false
    const fromMs = system.clock.monotonicMs()
    const found = await this.deps.watcher.sweep((file) => registry.isAsKnown(file))
    const toMs = system.clock.monotonicMs()
    this.pace.noteSweep({ fromMs, toMs })
    this.directories = found.directories
    this.watchDirectories()
    this.leftOut = found.leftOut
    const { fresh, touched, missing } = registry.reconcile(found.files, toMs)
    for (const file of fresh) this.appeared(file)
    for (const file of touched) reader.poke(file)
    for (const file of missing) this.losesName(file)
    // A name came or went: perhaps the copy of what was cut while nobody compared.
    for (const file of registry.files) if (file.isAdrift) this.rescueDirectories.add(parentOf(file.path))
    this.fileCount.set(registry.size)
  }

  /** Nobody tells of the files of a hot directory, so all are looked at, while they are not too many for that. */
  private get mustLookAtAll(): boolean {
    return !this.hot.isEmpty && this.deps.registry.size <= LOOK_AT_ALL_MAX
  }

  private watchDirectories(): void {
    this.directoryWatcher?.watch(this.directories.filter((directory) => !this.hot.has(directory)))
  }

  private heats(directory: string): void {
    this.watchDirectories()
    for (const file of this.deps.registry.files) {
      if (parentOf(file.path) !== directory) continue
      file.isPolled = true
      this.deps.reader.poke(file)
    }
  }

  private coolDown(): void {
    const nowMs = this.deps.system.clock.monotonicMs()
    const growing = new Set<string>()
    if (!this.hot.isEmpty) {
      for (const file of this.deps.registry.awake) if (nowMs - file.lastGrowthMs < COOL_AFTER_MS) growing.add(parentOf(file.path))
    }
    if (!this.hot.tick((directory) => !growing.has(directory))) return
    this.watchDirectories()
    for (const file of this.deps.registry.files) file.isPolled = this.hot.has(parentOf(file.path))
    this.isSweepWanted = true
  }

  /** Rotation may have been faster than we look: what was born beside a new file since we run is ours as well. */
  private appeared(file: SourceFile): void {
    if (file.isFromStart) return
    this.deps.registry.since.noteTime(file.keyPath, this.startedMs)
    this.rescueDirectories.add(parentOf(file.path))
  }

  /** An event is only a hint: a known file may have grown, an unknown name may be a new file. */
  private noticed(event: WatchEvent): void {
    const { registry, reader, watcher } = this.deps
    const directory = parentOf(event.path)
    if (this.hot.has(directory)) return
    if (this.hot.count(directory)) this.heats(directory)
    let isKnown = false
    for (const file of registry.allAtPath(event.path, this.topics)) {
      reader.poke(file)
      isKnown = file.cursor !== undefined
    }
    if (isKnown || this.isSweepWanted) return
    if (!watcher.matches(event.path) && !registry.isBesideFiles(event.path, this.topics)) return
    this.glances.note(event.path)
    this.sweepWaker.wake()
  }

  /** Its bytes are still ours to read: by its descriptor, or under the name that rotation gave it. */
  private losesName(file: SourceFile): void {
    const { registry, reader } = this.deps
    if (!registry.has(file)) {
      // Its inode is another file's already.
      this.endStream(file)
      reader.forget(file)
      registry.remove(file)
      return
    }
    registry.detach(file)
    this.lost.push(file)
    this.rescueDirectories.add(parentOf(file.path))
    reader.poke(file, { isUrgent: true })
  }

  // Between turns.

  private async tendFiles(): Promise<void> {
    const { registry, system } = this.deps
    await this.looks.tick()
    let lagBytes = 0
    const nowMs = system.clock.monotonicMs()
    for (const file of registry.awake) {
      if (file.isDetached || file.partialBytes > 0) this.tendFile(file, nowMs)
      const fileLagBytes = file.lagBytes
      lagBytes += fileLagBytes
      file.behindSinceMs = fileLagBytes === 0 ? undefined : (file.behindSinceMs ?? nowMs)
      if (file.isAtRest && !this.pace.isActive(file, nowMs)) registry.rest(file)
    }
    this.lagBytes.set(lagBytes)
  }

  private tendFile(file: SourceFile, nowMs: number): void {
    const { config, reader, system, registry } = this.deps
    const { unterminatedAfterMs, rotateGraceMs, isOnce } = config
    const tending = tend(file, nowMs, { unterminatedAfterMs, rotateGraceMs, isOnce })
    switch (tending.kind) {
      case 'nothing':
        return
      case 'finish line':
        file.wantsFinal = true
        reader.poke(file, { isUrgent: true })
        return
      case 'lose':
        this.lostBytes.add(tending.bytes)
        system.log.warn('a file was gone before it was read to its end', { path: file.path, bytes: tending.bytes })
        break
      case 'finish file':
        registry.noteFinished(file)
        break
    }
    this.endStream(file)
    reader.forget(file)
    registry.remove(file)
    void this.deps.handles.close(file).catch((error: unknown) => this.looks.failed(file, error))
  }

  private endStream(file: SourceFile): void {
    const { cursor } = file
    if (cursor === undefined || cursor.stream.settled.recordCount === 0) return
    this.closing.push({ id: cursor.stream.identity.idHex, position: cursor.stream.settled.position })
  }

  // Identity.

  private async identifyLoop(signal: AbortSignal): Promise<void> {
    const { session, system } = this.deps
    while (!signal.aborted) {
      try {
        await session.ready(signal)
        await session.refresh(signal)
        if (this.sweeps > 0) await this.identifyRound(signal)
        await this.closeStreams(signal)
        session.accepted('streams')
      } catch (thrown) {
        const error = toAppError(thrown)
        if (error.code === 'ABORTED') return
        if (error.code === 'INTERNAL') throw error
        session.refused('streams', error)
        await sleepQuietly(system.clock, REFUSED_WAIT_MS, signal)
      }
      await this.identifyWaker.wait(this.tickMs, signal)
    }
  }

  private async identifyRound(signal: AbortSignal): Promise<void> {
    const { registry, identifier, system, reader } = this.deps
    this.isIdentifying = true
    try {
      await this.rescueLost()
      const nowMs = system.clock.monotonicMs()
      const files = [...registry.awake].filter((file) => file.wantsIdentity && file.identifyAtMs <= nowMs)
      if (files.length === 0) return
      const adrift = files.filter((file) => file.isAdrift)
      await identifier.identify(files, signal)
      // From here on every cut is seen; copies of those before lie there by now.
      for (const file of adrift) if (!file.isAdrift) this.rescueDirectories.add(parentOf(file.path))
      for (const file of files) {
        file.isPolled = this.hot.has(parentOf(file.path))
        reader.poke(file, { isUrgent: true })
      }
    } finally {
      this.isIdentifying = false
    }
  }

  /** From both loops: while the collector is away siblings are taken in too, so that their descriptors are held in time. */
  private async rescueLost(): Promise<void> {
    const { system, registry, watcher, config, identifier } = this.deps
    if (this.rescueDirectories.size === 0) return
    const directories = new Set(this.rescueDirectories)
    const { lost } = this
    this.rescueDirectories.clear()
    this.lost = []
    this.rescues += 1
    try {
      const replaced = await rescue({ system, registry, watcher, inputs: config.inputs, known: () => identifier.learned() }, { directories, lost })
      for (const file of replaced) this.losesName(file)
    } finally {
      this.rescues -= 1
    }
  }

  private async closeStreams(signal: AbortSignal): Promise<void> {
    const streams = this.closing.slice(0, CLOSES_AT_A_TIME)
    if (streams.length === 0) return
    await this.deps.session.call((client) => client.close(streams, signal), signal)
    this.closing = this.closing.slice(streams.length)
  }

  // Reports.

  /** The reader found other bytes than it remembers: the stream ends where it was read to. */
  changed(file: SourceFile, how: 'shrunk' | 'rewritten'): void {
    const { registry, system } = this.deps
    this.truncations.add(1, { how })
    system.log.warn('a file was truncated or rewritten', { path: file.path, how, position: file.position })
    registry.untie(file)
    file.wasChangeSeen = true
    file.state = NEW
    file.identifyAtMs = 0
    this.lost.push(file)
    this.rescueDirectories.add(parentOf(file.path))
    this.identifyWaker.wake()
  }

  /** What is stored of the stream are other bytes than the file's: what is on its way of it is read again, from 0. */
  refuted(file: SourceFile, stream: Stream, range: { start: number; end: number }): void {
    const { registry, system, budget } = this.deps
    this.truncations.add(1, { how: 'prefix' })
    system.log.warn('a file is not what was shipped: it begins a new generation', { path: file.path, stream: stream.identity.idHex, ...range })
    stream.state = { kind: 'moved', reason: 'diverged' }
    budget.release(stream.drop())
    registry.untie(file)
    registry.orphans.delete(stream.identity.idHex)
    file.refute(stream.identity.idHex)
    file.wasChangeSeen = true
    file.state = NEW
    file.identifyAtMs = 0
    this.identifyWaker.wake()
  }

  vanished(file: SourceFile): void {
    file.isListed = false
    this.isSweepWanted = true
    this.sweepWaker.wake()
  }

  settled(stream: Stream): void {
    const { registry, reader } = this.deps
    // An orphan that has arrived is the collector's to tell about from now on.
    if (stream.placeCount === 0) registry.orphans.delete(stream.identity.idHex)
    const file = registry.ofStream(stream.identity.idHex)
    if (file !== undefined) file.moves = 0
    reader.wake()
    if (this.deps.config.isOnce) this.sweepWaker.wake()
  }

  /** The collector refused the stream, or stands elsewhere than we believe. */
  stopped(stream: Stream): void {
    const { registry, budget, system } = this.deps
    const { idHex, keyPath } = stream.identity
    const file = registry.ofStream(idHex)
    budget.release(stream.drop())
    registry.orphans.delete(idHex)
    if (file === undefined) {
      system.log.error('batches of a file that is gone were not taken', { path: keyPath, stream: idHex, state: stream.state.kind })
      return
    }
    registry.untie(file)
    if (stream.state.kind === 'parked') file.state = { kind: 'parked', reason: stream.state.reason }
    else if (stream.state.kind === 'moved') this.moved(file, stream.state.reason)
  }

  /** Asks again which stream the file is: the bytes are still in the file. */
  private moved(file: SourceFile, reason: 'have' | 'expected' | 'diverged'): void {
    const { clock, log, random } = this.deps.system
    this.moves.add(1, { reason })
    const delayMs = file.moves === 0 ? 0 : backoffMs(file.moves, { baseMs: 500, maxMs: 60_000 }, random.next())
    log.warn('the collector stands elsewhere in a file', { path: file.path, reason })
    file.state = NEW
    file.wasChangeSeen = false
    file.mustBeginAtStart = reason === 'expected'
    file.moves += 1
    file.identifyAtMs = clock.monotonicMs() + delayMs
    this.identifyWaker.wake()
  }

  greeted(greeting: Greeting): void {
    const positions = new Map(greeting.streams.map((stream) => [stream.id, stream.position]))
    const isFirst = this.logEpoch === undefined
    const isSetBack = !isFirst && (this.logEpoch !== greeting.logEpoch || this.deps.registry.isAheadOf(positions))
    this.logEpoch = greeting.logEpoch
    if (isFirst || isSetBack) for (const stream of greeting.streams) this.rescueDirectories.add(parentOf(stream.keyPath))
    if (isSetBack) {
      for (const directory of this.deps.registry.forgetFinished()) this.rescueDirectories.add(directory)
      this.checkPositions(positions)
    }
    if (!isFirst) this.checkOvertaken(greeting.streams)
    this.deps.reader.wake()
  }

  /** The collector has less than it acked: an older copy of its folder was put in place. What is missing is read again. */
  private checkPositions(positions: ReadonlyMap<string, number>): void {
    for (const file of this.deps.registry.files) {
      const stream = file.cursor?.stream
      if (stream === undefined || stream.settled.recordCount === 0) continue
      if ((positions.get(stream.identity.idHex) ?? 0) >= stream.settled.position) continue
      stream.state = { kind: 'moved', reason: 'expected' }
      this.stopped(stream)
    }
  }

  /**
   * A stream that is at rest here and has grown there holds another file: of a cloned agent, which came first after an
   * older copy of the folder was put in place. Ours may never grow again, so it is looked at now.
   */
  private checkOvertaken(streams: Greeting['streams']): void {
    const { registry } = this.deps
    for (const { id, position } of streams) {
      const stream = registry.ofStream(id)?.cursor?.stream
      if (stream === undefined || !stream.isIdle || position <= stream.settled.position) continue
      stream.state = { kind: 'moved', reason: 'have' }
      this.stopped(stream)
    }
  }
}
