/**
 * Every stream's position. Two of them: `state` is folded from synced batches and is what others see; `appended` runs
 * ahead while groups are in flight, and is what the next batch is held against. A rollback sets it back to `state`.
 *
 * All methods are synchronous: nothing happens between a decision and its effect. States are never changed in place, so
 * a listing or a snapshot may hold on to them.
 */
import { assert } from '../../shared/errors.ts'
import { headHash, streamId } from '../../shared/hashes.ts'
import type { SourceHeader } from '../../shared/source-header.ts'
import type { FilePosition, Offset } from '../../shared/types.ts'
import { STREAM_BEGIN, type AppendedPosition } from './acceptance.ts'
import { continues, foldBatch, type FoldInput } from './stream-fold.ts'
import type { StreamState, StreamTable } from './topic-log.ts'

export interface StreamEntry {
  readonly topic: string
  /** Chosen once, when the stream begins. */
  readonly partition: number
  state: StreamState | undefined
  appended: AppendedPosition
  /** Settles with the newest batch in flight; undefined when all is synced. */
  inFlight: Promise<Offset> | undefined
}

interface AgentStreams {
  readonly ids: Set<string>
  /** Ids by head length, then by head hash: so that a file's first bytes can be looked up. */
  readonly heads: Map<number, Map<string, Set<string>>>
  sorted: readonly string[] | undefined
}

const FIND_LIMIT = 1000

export class MemoryStreamTable implements StreamTable {
  /** Bumped with every change, so that a snapshot knows whether it is due. */
  version = 0
  private readonly entries = new Map<string, StreamEntry>()
  private readonly agents = new Map<string, AgentStreams>()
  /** Ids of all generations of one file. */
  private readonly files = new Map<string, Set<string>>()
  private known = 0

  get size(): number {
    return this.known
  }

  get(id: Buffer): StreamState | undefined {
    return this.entries.get(id.toString('hex'))?.state
  }

  *list(): Iterable<StreamState> {
    for (const key of [...this.entries.keys()].sort()) {
      const state = this.entries.get(key)?.state
      if (state !== undefined) yield state
    }
  }

  ofAgent(agentId: string, options: { after?: Buffer; limit: number }): readonly StreamState[] {
    const agent = this.agents.get(agentId)
    if (agent === undefined) return []
    agent.sorted ??= [...agent.ids].sort()
    const after = options.after?.toString('hex')
    const from = after === undefined ? 0 : firstAbove(agent.sorted, after)
    return this.states(agent.sorted.slice(from, from + options.limit))
  }

  find(agentId: string, options: { topic: string; inode: bigint; birthtimeNs: bigint; head: Buffer }): readonly StreamState[] {
    const agent = this.agents.get(agentId)
    if (agent === undefined) return []
    const found = new Set(this.files.get(fileKey({ agentId, ...options })))
    for (const [length, hashes] of agent.heads) {
      if (length === 0 || length > options.head.length) continue
      for (const id of hashes.get(headHash(options.head.subarray(0, length)).toString('hex')) ?? []) found.add(id)
    }
    return this.states([...found].sort()).filter((state) => state.topic === options.topic).slice(0, FIND_LIMIT)
  }

  close(id: Buffer, position: FilePosition): boolean {
    const entry = this.entries.get(id.toString('hex'))
    if (entry?.state === undefined || entry.inFlight !== undefined || entry.state.position !== position) return false
    if (entry.state.isOpen) this.replace(entry, { ...entry.state, isOpen: false })
    return true
  }

  entry(id: Buffer): StreamEntry | undefined {
    return this.entries.get(id.toString('hex'))
  }

  /** A stream whose first batch is being appended. */
  begin(source: SourceHeader, place: { topic: string; partition: number }): StreamEntry {
    const key = source.streamId.toString('hex')
    assert(!this.entries.has(key), 'a stream begins once')
    const entry: StreamEntry = { ...place, state: undefined, appended: STREAM_BEGIN, inFlight: undefined }
    this.entries.set(key, entry)
    return entry
  }

  /** The batch has its place in the writer's queue. */
  advance(entry: StreamEntry, batch: { source: SourceHeader; recordCount: number; done: Promise<Offset> }): void {
    const { source } = batch
    entry.appended = { position: source.end, tailHash: source.tailHashEnd, recordCount: source.firstOrdinal + batch.recordCount }
    entry.inFlight = batch.done
  }

  /** A batch is synced. */
  commit(input: FoldInput): void {
    const { source } = input
    const entry = this.entries.get(source.streamId.toString('hex'))
    assert(entry !== undefined, 'a committed stream was begun')
    assert(continues(entry.state, source), 'a stream has no hole and no overlap')
    this.replace(entry, foldBatch(entry.state, input))
    if (entry.appended.position === source.end) entry.inFlight = undefined
  }

  /** The streams of these batches stand again where they are synced. */
  rollBack(sources: Iterable<SourceHeader>): void {
    for (const { streamId: id } of sources) {
      const key = id.toString('hex')
      const entry = this.entries.get(key)
      if (entry === undefined) continue
      entry.inFlight = undefined
      if (entry.state === undefined) this.entries.delete(key)
      else entry.appended = appendedOf(entry.state)
    }
  }

  /** From a snapshot or from recovery's fold. */
  restore(state: StreamState): void {
    const key = state.source.streamId.toString('hex')
    assert(!this.entries.has(key), 'a stream is restored once')
    const entry: StreamEntry = { topic: state.topic, partition: state.partition, state: undefined, appended: appendedOf(state), inFlight: undefined }
    this.entries.set(key, entry)
    this.replace(entry, state)
  }

  /** The topic was deleted: its positions are kept, so that its files are not shipped again unasked. */
  closeTopic(topic: string): void {
    for (const entry of this.entries.values()) {
      if (entry.topic === topic && entry.state?.isOpen === true) this.replace(entry, { ...entry.state, isOpen: false })
    }
  }

  /** Closed streams whose last append is older are forgotten; answers how many. */
  forgetClosed(beforeMs: number): number {
    let count = 0
    for (const [key, { state, inFlight }] of this.entries) {
      if (state === undefined || state.isOpen || inFlight !== undefined || state.lastAppendMs >= beforeMs) continue
      this.unlink(key, state)
      this.entries.delete(key)
      count += 1
    }
    return count
  }

  private states(keys: readonly string[]): StreamState[] {
    return keys.map((key) => this.entries.get(key)?.state).filter((state) => state !== undefined)
  }

  private replace(entry: StreamEntry, next: StreamState): void {
    const key = next.source.streamId.toString('hex')
    const before = entry.state
    entry.state = { ...next, isSuperseded: next.isSuperseded || this.hasSuperseder(next.source) }
    if (before === undefined || !before.source.headHash.equals(next.source.headHash)) {
      if (before !== undefined) this.unlink(key, before)
      this.link(key, next)
    }
    if (before === undefined) this.markSuperseded(next.source)
    this.version += 1
  }

  private link(key: string, { source, topic }: StreamState): void {
    const agent = this.agents.get(source.agentId) ?? { ids: new Set(), heads: new Map<number, Map<string, Set<string>>>(), sorted: undefined }
    this.agents.set(source.agentId, agent)
    agent.ids.add(key)
    agent.sorted = undefined
    const hashes = agent.heads.get(source.headLength) ?? new Map<string, Set<string>>()
    agent.heads.set(source.headLength, hashes)
    addTo(hashes, source.headHash.toString('hex'), key)
    addTo(this.files, fileKey({ ...source, topic }), key)
    this.known += 1
  }

  private unlink(key: string, { source, topic }: StreamState): void {
    const agent = this.agents.get(source.agentId)
    const hashes = agent?.heads.get(source.headLength)
    if (hashes !== undefined) removeFrom(hashes, source.headHash.toString('hex'), key)
    if (hashes?.size === 0) agent?.heads.delete(source.headLength)
    agent?.ids.delete(key)
    if (agent !== undefined) agent.sorted = undefined
    if (agent?.ids.size === 0) this.agents.delete(source.agentId)
    removeFrom(this.files, fileKey({ ...source, topic }), key)
    this.known -= 1
  }

  /** Whichever of the two generations is folded first, the older one ends up marked. */
  private hasSuperseder(source: SourceHeader): boolean {
    const entry = this.entries.get(source.streamId.toString('hex'))
    if (entry === undefined) return false
    for (const id of this.files.get(fileKey({ ...source, topic: entry.topic })) ?? []) {
      if (this.entries.get(id)?.state?.source.supersedes === source.generation) return true
    }
    return false
  }

  private markSuperseded(source: SourceHeader): void {
    const topic = this.entries.get(source.streamId.toString('hex'))?.topic
    if (source.supersedes === undefined || topic === undefined) return
    const older = this.entries.get(streamId({ ...source, topic, generation: source.supersedes }).toString('hex'))
    if (older?.state !== undefined && !older.state.isSuperseded) older.state = { ...older.state, isSuperseded: true }
  }
}

function appendedOf(state: StreamState): AppendedPosition {
  return { position: state.position, tailHash: state.tailHash, recordCount: state.recordCount }
}

function fileKey(file: { agentId: string; topic: string; inode: bigint; birthtimeNs: bigint }): string {
  return JSON.stringify([file.agentId, file.topic, String(file.inode), String(file.birthtimeNs)])
}

function addTo(map: Map<string, Set<string>>, name: string, id: string): void {
  const set = map.get(name) ?? new Set()
  map.set(name, set)
  set.add(id)
}

function removeFrom(map: Map<string, Set<string>>, name: string, id: string): void {
  const set = map.get(name)
  set?.delete(id)
  if (set?.size === 0) map.delete(name)
}

/** Index of the first id behind `after` in a sorted list. */
function firstAbove(sorted: readonly string[], after: string): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((sorted[middle] ?? '') <= after) low = middle + 1
    else high = middle
  }
  return low
}
