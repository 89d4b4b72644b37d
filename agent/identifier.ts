/**
 * Ties files to streams: opens each file, gathers what its bytes and the collector say, asks the decision table
 * (identity.ts) and acts. The only place where a position from outside is adopted, always after head hash and tail hash
 * were compared with the file's own bytes. One call at a time; files may change while it waits, so each is checked to be
 * still untied before it is tied.
 */
import { AppError } from '../shared/errors.ts'
import { readFully } from '../shared/files.ts'
import { hashText, headHash, NO_TAIL_HASH_TEXT } from '../shared/hashes.ts'
import { HEAD_BYTES_MAX, TAIL_BYTES_MAX } from '../shared/source-header.ts'
import type { Counter, FileHandle, System } from '../shared/system.ts'
import { canAdopt, isPrefixOf, readHead, readTailHash } from './fingerprint.ts'
import type { Handles } from './handles.ts'
import { decideIdentity, isSiblingPath, type Decision, type StreamFacts } from './identity.ts'
import type { KnownStream } from './known-stream.ts'
import { describeReadError } from './read-error.ts'
import type { Registry } from './registry.ts'
import type { Session } from './session.ts'
import { EMPTY, NEW, READING, type ReadCursor, type SourceFile } from './source-file.ts'
import { knownIdentity, newIdentity, Stream, type StreamIdentity } from './stream.ts'

/** The protocol's cap per lookup. */
const LOOKUP_FILES_MAX = 256
/** A copy that stays a copy for so long is a file of its own. */
const COPY_WAIT_MS = 30_000
const RETRY_MS = 5000
const GENERATIONS_MAX = 0xffff_ffff

export interface IdentifierDeps {
  readonly system: System
  readonly session: Session
  readonly registry: Registry
  readonly handles: Handles
  readonly agentId: string
  readonly isReship: boolean
  readonly isOnce: boolean
  /** A position from outside was adopted. */
  readonly onAdopted: (file: SourceFile) => void
}

/** A file with what was read of it. */
interface Probe {
  readonly file: SourceFile
  readonly handle: FileHandle
  readonly size: number
  readonly head: Buffer
}

export class Identifier {
  private readonly deps: IdentifierDeps
  /** What hello said, by file, for streams that no file of ours ships into yet. */
  private known = new Map<string, KnownStream[]>()
  private readonly scratch = Buffer.alloc(TAIL_BYTES_MAX)
  private readonly generations: Counter
  private readonly adopted: Counter

  constructor(deps: IdentifierDeps) {
    this.deps = deps
    this.generations = deps.system.metrics.counter('tailrace_agent_generations_total', 'Generations begun after the first of a file')
    this.adopted = deps.system.metrics.counter('tailrace_agent_streams_adopted_total', 'Positions adopted after both hashes were compared')
  }

  learn(streams: readonly KnownStream[]): void {
    this.known = new Map()
    for (const stream of streams) {
      this.note(stream)
      // What a file ships into is known better here.
      if (this.deps.registry.ofStream(stream.id) !== undefined) continue
      const key = streamKey(stream)
      this.known.set(key, [...(this.known.get(key) ?? []), stream])
    }
  }

  private forget(stream: KnownStream): void {
    const key = streamKey(stream)
    const left = this.known.get(key)?.filter(({ id }) => id !== stream.id) ?? []
    if (left.length === 0) this.known.delete(key)
    else this.known.set(key, left)
  }

  private note(stream: KnownStream): void {
    const { since } = this.deps.registry
    since.noteFile(stream.keyPath, stream)
    if (stream.lastAppendMs !== undefined) since.noteTime(stream.keyPath, stream.lastAppendMs)
  }

  /** Streams that hello told of, without those that a file ships into. */
  *learned(): Iterable<KnownStream> {
    for (const streams of this.known.values()) yield* streams
  }

  /** Files that could not be decided stay as they are and come again. */
  async identify(files: readonly SourceFile[], signal: AbortSignal): Promise<void> {
    const undecided: SourceFile[] = []
    for (const file of files) if (!(await this.resumeFromHello(file))) undecided.push(file)
    // Oldest first: a copy that carries on a stream tells since when its base path is followed.
    undecided.sort((a, b) => Number(a.birthtimeNs - b.birthtimeNs))
    for (let at = 0; at < undecided.length; at += LOOKUP_FILES_MAX) {
      // Group by group: of ten thousand files the heads alone would be 10 MiB.
      const probes: Probe[] = []
      for (const file of undecided.slice(at, at + LOOKUP_FILES_MAX)) {
        // Let go while others were asked about: a descriptor taken now would be nobody's.
        const probe = this.deps.registry.has(file) ? await this.probe(file) : undefined
        if (probe !== undefined) probes.push(probe)
      }
      if (probes.length > 0) await this.decideGroup(probes, signal)
    }
  }

  private async probe(file: SourceFile): Promise<Probe | undefined> {
    try {
      const handle = await this.deps.handles.of(file)
      const stat = await handle.stat()
      const head = await readHead(handle)
      file.size = stat.size
      return { file, handle, size: stat.size, head }
    } catch (error) {
      this.failed(file, error)
      return undefined
    }
  }

  private failed(file: SourceFile, thrown: unknown): void {
    if (thrown instanceof AppError && thrown.code !== 'NOT_FOUND' && thrown.code !== 'UNAVAILABLE') throw thrown
    const { text, isGone } = describeReadError(thrown)
    const nowMs = this.deps.system.clock.monotonicMs()
    file.identifyAtMs = nowMs + RETRY_MS
    if (isGone) return
    if (file.state.kind !== 'failing') this.deps.system.log.warn('a file can not be read', { path: file.path, reason: text })
    file.state = { kind: 'failing', reason: text, retryAtMs: file.identifyAtMs, attempts: 0 }
  }

  /**
   * The common case at a restart: hello named the stream and the file is as it was left. No further request. Whether the
   * file is done with for now.
   */
  private async resumeFromHello(file: SourceFile): Promise<boolean> {
    if (file.moves > 0 || this.deps.isReship) return false
    const own = (this.known.get(streamKey({ topic: file.input.topic, inode: file.inode, birthtimeNs: file.birthtimeNs })) ?? []).filter((stream) => !stream.isSuperseded)
    const newest = own.sort((a, b) => b.generation - a.generation)[0]
    // While batches of it are on their way, hello tells of a position that is behind us.
    if (newest === undefined || this.deps.registry.orphans.has(newest.id)) return false
    const probe = await this.probe(file)
    if (probe === undefined) return true
    try {
      if (this.isTaken(newest, file) || !(await this.matches(probe, newest))) return false
    } catch (error) {
      this.failed(file, error)
      return true
    }
    this.resume(probe, newest)
    return true
  }

  private async decideGroup(probes: readonly Probe[], signal: AbortSignal): Promise<void> {
    const answers = await this.deps.session.call(
      (client) =>
        client.lookup(
          probes.map(({ file, head }) => ({
            topic: file.input.topic,
            inode: file.inode.toString(),
            birthtimeNs: file.birthtimeNs.toString(),
            head: head.toString('base64'),
          })),
          signal,
        ),
      signal,
    )
    const candidates = probes.map((probe, index) => ({ probe, streams: this.candidates(probe.file, answers[index] ?? []) }))
    // Files that are known come first: only then is it certain whose own file is gone.
    for (const pass of ['own', 'others'] as const) {
      for (const { probe, streams } of candidates) {
        const hasOwn = streams.some((stream) => isOwn(stream, probe.file))
        if (hasOwn === (pass === 'own')) await this.decide(probe, streams)
      }
    }
  }

  /** What the collector named, with our own later knowledge of what is still on its way. */
  private candidates(file: SourceFile, found: readonly KnownStream[]): KnownStream[] {
    const { topic } = file.input
    const byId = new Map<string, KnownStream>()
    const isRelated = (stream: KnownStream): boolean => isOwn(stream, file) || isSibling(stream, file)
    for (const stream of found) {
      if (stream.topic !== topic || !isRelated(stream)) continue
      byId.set(stream.id, stream)
      this.note(stream)
    }
    for (const stream of this.deps.registry.orphanStreams(topic)) if (isRelated(stream)) byId.set(stream.id, stream)
    return [...byId.values()]
  }

  private async decide(probe: Probe, streams: readonly KnownStream[]): Promise<void> {
    const { file } = probe
    const { clock } = this.deps.system
    let decision: Decision
    try {
      const facts: StreamFacts[] = []
      for (const stream of streams) facts.push(await this.factsOf(probe, stream))
      decision = decideIdentity({
        inode: file.inode,
        birthtimeNs: file.birthtimeNs,
        size: probe.size,
        streams: facts,
        isCopyOfLiveSibling: await this.isCopyOfLiveSibling(probe),
        isWaitOver: this.deps.isOnce || (file.state.kind === 'waiting' && clock.monotonicMs() - file.state.sinceMs >= COPY_WAIT_MS),
        wasChangeSeen: file.wasChangeSeen,
        isGuest: file.isGuest,
        isReship: this.deps.isReship && file.isFromStart && file.generationFloor === 0,
      })
      if (file.cursor !== undefined || !this.deps.registry.has(file)) return
      await this.act(probe, decision)
    } catch (error) {
      this.failed(file, error)
    }
  }

  private async factsOf(probe: Probe, stream: KnownStream): Promise<StreamFacts> {
    return {
      stream,
      doesContentMatch: await this.matches(probe, stream),
      isSibling: isSibling(stream, probe.file),
      ownFile: this.ownFile(stream),
      isClaimed: this.isTaken(stream, probe.file),
    }
  }

  private async matches(probe: Probe, stream: KnownStream): Promise<boolean> {
    if (stream.position > probe.size || probe.file.isRefuted(stream.id)) return false
    return canAdopt(probe.handle, stream, { head: probe.head, scratch: this.scratch })
  }

  private ownFile(stream: KnownStream): StreamFacts['ownFile'] {
    for (const file of this.deps.registry.files) {
      if (!isOwn(stream, file) || file.input.topic !== stream.topic) continue
      if (file.cursor !== undefined) return file.cursor.stream.identity.idHex === stream.id ? 'alive' : 'changed'
      return file.wasChangeSeen && file.generationFloor > 0 ? 'changed' : 'alive'
    }
    return 'gone'
  }

  private isTaken(stream: KnownStream, by: SourceFile): boolean {
    const other = this.deps.registry.ofStream(stream.id)
    if (other === undefined || other === by) return false
    return isOwn(stream, by) || !isOwn(stream, other)
  }

  /** Looks for a live file whose name is a beginning of this one's, and compares bytes. */
  private async isCopyOfLiveSibling(probe: Probe): Promise<boolean> {
    const { file } = probe
    if (file.generationFloor > 0) return false
    const slash = file.path.lastIndexOf('/')
    for (let end = file.path.length - 1; end > slash + 1; end -= 1) {
      const base = this.deps.registry.atPath(file.path.slice(0, end), file.input.topic)
      if (base?.cursor === undefined || base.size < probe.size) continue
      if (await isPrefixOf(probe.handle, await this.deps.handles.of(base), probe.size, this.scratch)) return true
    }
    return false
  }

  private async act(probe: Probe, decision: Decision): Promise<void> {
    const { file } = probe
    switch (decision.kind) {
      case 'empty':
        // It may have grown while the collector was asked; then nobody would ask again.
        file.state = file.size === 0 ? EMPTY : NEW
        return
      case 'resume':
        this.resume(probe, decision.stream)
        return
      case 'wait':
        if (file.state.kind !== 'waiting') file.state = { kind: 'waiting', sinceMs: this.deps.system.clock.monotonicMs() }
        return
      case 'leave':
        await this.letGo(file)
        return
      case 'begin':
        await this.begin(probe, decision)
    }
  }

  /** Continues a stream: where its orphaned batches end, or at the collector's position. */
  private resume(probe: Probe, stream: KnownStream): void {
    const { file, head } = probe
    const { registry, system } = this.deps
    const orphan = registry.orphans.get(stream.id)
    // Became an orphan, or was read on, while we looked: what was compared is not where it stands.
    if (orphan !== undefined && orphan.start.position !== stream.position) return
    // Settled while we looked, one way or the other: the collector is asked again, since it may have refused what was on its way.
    if (orphan === undefined && stream.isOrphan) return
    const headLength = Math.min(HEAD_BYTES_MAX, stream.position)
    const start = {
      position: stream.position,
      tailHash: stream.tailHash,
      ordinal: stream.recordCount,
      headLength,
      headHash: headLength === stream.headLength ? stream.headHash : hashText(headHash(head.subarray(0, headLength))),
    }
    const shipped = { position: stream.position, tailHash: stream.tailHash, recordCount: stream.recordCount }
    const identity = knownIdentity(stream)
    const cursor: ReadCursor = orphan ?? { stream: new Stream(identity, shipped), start }
    registry.tie(file, cursor)
    this.forget(stream)
    file.state = READING
    this.adopted.add(1)
    if (orphan === undefined) this.deps.onAdopted(file)
    system.log.debug('a file resumes its stream', { path: file.path, stream: stream.id, position: stream.position })
  }

  /** A guest that is not ours to ship: the next search among siblings looks at it again. */
  private async letGo(file: SourceFile): Promise<void> {
    this.deps.registry.remove(file)
    await this.deps.handles.close(file)
  }

  private async begin(probe: Probe, decision: Extract<Decision, { kind: 'begin' }>): Promise<void> {
    const { file } = probe
    const { registry, system } = this.deps
    if (file.isGuest && decision.isKnownGuest !== true && !registry.since.isYounger(file.keyPath, file, registry.atPath(file.keyPath, file.input.topic))) {
      await this.letGo(file)
      return
    }
    const isUnknown = decision.generation === 1 && file.generationFloor === 0
    const tooOld = isUnknown ? this.tooOld(file) : undefined
    if (tooOld !== undefined) {
      file.state = { kind: 'ignored', reason: tooOld }
      return
    }
    const position = isUnknown && file.isFromStart && file.input.startAt === 'end' && !file.mustBeginAtStart ? await lastLineStart(probe) : 0
    const tail = (await readTailHash(probe.handle, position, this.scratch)) ?? NO_TAIL_HASH_TEXT
    const headLength = Math.min(HEAD_BYTES_MAX, position)
    const stream = new Stream(this.freeIdentity(file, decision), { position, tailHash: tail, recordCount: 0 })
    registry.tie(file, {
      stream,
      start: { position, tailHash: tail, ordinal: 0, headLength, headHash: hashText(headHash(probe.head.subarray(0, headLength))) },
    })
    file.state = READING
    if (!isUnknown) this.generations.add(1)
    const event = isUnknown ? 'a file begins a stream' : 'a file begins a new generation'
    system.log[isUnknown ? 'debug' : 'warn'](event, { path: file.path, generation: stream.identity.generation, supersedes: decision.supersedes })
  }

  /** Two live files with one key can't share a stream: the second takes the next free generation. */
  private freeIdentity(file: SourceFile, decision: { generation: number; supersedes: number | undefined }): StreamIdentity {
    const { registry, agentId } = this.deps
    let generation = Math.max(decision.generation, file.generationFloor + 1)
    for (; generation < GENERATIONS_MAX; generation += 1) {
      const { inode, birthtimeNs, keyPath } = file
      const { supersedes } = decision
      const identity = newIdentity({ agentId, topic: file.input.topic, inode, birthtimeNs, generation, supersedes, keyPath })
      if (registry.ofStream(identity.idHex) === undefined && !registry.orphans.has(identity.idHex)) return identity
    }
    throw new AppError('INTERNAL', `no generation is free for ${file.path}`)
  }

  private tooOld(file: SourceFile): string | undefined {
    const { ignoreOlderMs } = file.input
    if (ignoreOlderMs === undefined || this.deps.system.clock.nowMs() - file.mtimeMs < ignoreOlderMs) return undefined
    return 'not written for longer than ignoreOlder'
  }
}

function streamKey(key: { topic: string; inode: bigint; birthtimeNs: bigint }): string {
  return `${key.topic} ${key.inode} ${key.birthtimeNs}`
}

function isOwn(stream: KnownStream, file: SourceFile): boolean {
  return stream.inode === file.inode && stream.birthtimeNs === file.birthtimeNs
}

/** By the path that it has now, which is a copy's where a copy carries it on, or by the one that it began with. */
function isSibling(stream: KnownStream, file: SourceFile): boolean {
  return isSiblingPath(stream.path, file.path) || isSiblingPath(stream.keyPath, file.path)
}

/** Where the last, perhaps unfinished line begins, for `startAt: end`: no record may begin in the middle of a line. */
async function lastLineStart(probe: Probe): Promise<number> {
  const from = Math.max(0, probe.size - TAIL_BYTES_MAX)
  const tail = Buffer.alloc(probe.size - from)
  const count = await readFully(probe.handle, tail, from)
  const newline = tail.subarray(0, count).lastIndexOf(0x0a)
  return newline < 0 ? probe.size : from + newline + 1
}
