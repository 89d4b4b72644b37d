/** From what a walk found to what `verify` says: pure judgement, one stream or partition at a time. */
import { createHash } from 'node:crypto'
import type { ExportInfo, StreamInfo } from '../../shared/wire.ts'
import type { MissingStream } from '../../shared/wire-missing.ts'
import type { WalkedPartition, WalkedStream } from './partition-walk.ts'
import type { SourceState } from './source-compare.ts'

export type Verdict = 'ok' | 'differs' | 'incomplete'

/** One row of `verify --json`. */
export interface StreamVerdict {
  readonly kind: 'stream'
  readonly verdict: Verdict
  readonly id: string
  readonly host: string
  readonly path: string
  readonly topic: string
  readonly partition: number
  readonly generation: number
  /** First byte that the log holds; what is before it was dropped by retention. */
  readonly start: number
  readonly position: number
  readonly records: number
  /** Of the bytes [start, position). */
  readonly sha256: string
  readonly source: 'same' | 'differs' | SourceState['kind']
  readonly exported: boolean
  readonly problems: readonly string[]
  readonly notes: readonly string[]
}

export interface PartitionVerdict {
  readonly kind: 'partition'
  readonly verdict: Verdict
  readonly topic: string
  readonly partition: number
  readonly firstOffset: number
  readonly endOffset: number
  readonly batches: number
  readonly bytes: number
  readonly exportedSegments: number
  readonly problems: readonly string[]
}

/** Offsets [fromOffset, toOffset) that the collector's own disk does not hold any more. */
export interface Damage {
  readonly topic: string
  readonly partition: number
  readonly fromOffset: number
  readonly toOffset: number
  readonly message: string
}

/** What is known of a log that was set back to an older copy. */
export interface SetBack {
  /** undefined: it was not, as far as anybody knows. */
  readonly sinceMs: number | undefined
  readonly missing: ReadonlyMap<string, MissingStream>
  readonly confirmed: ReadonlySet<string>
}

export interface StreamFacts {
  readonly stream: WalkedStream
  readonly walked: WalkedPartition
  readonly exports: ExportInfo | undefined
  readonly damages: readonly Damage[]
  readonly setBack: SetBack
}

export function judgeStream({ stream, walked, exports, damages, setBack }: StreamFacts): StreamVerdict {
  const { info, chain } = stream
  const start = chain.start ?? info.position
  const position = chain.start === undefined ? info.position : chain.position
  // Retention drops whole segments from the front; anything else that is not there is a hole.
  const isBeginGone = start > 0 && info.firstOffset < walked.logStartOffset
  const problems = [
    ...(start > 0 && !isBeginGone ? [`log: bytes 0 to ${start} are missing`] : []), ...logProblems(stream), ...sourceProblems(stream), ...diskProblems(stream, damages),
    ...setBackProblems(stream, setBack),
  ]
  const isBeginExported = isBeginGone && exports !== undefined && holdsRange(exports, info.firstOffset, walked.firstOffset)
  const notes = sourceNotes(stream.source)
  if (isBeginGone) notes.push(`log begins at byte ${start}${isBeginExported ? ', what was before it is exported' : ', what was before it is gone'}`)
  return {
    kind: 'stream',
    verdict: problems.length > 0 ? 'differs' : isBeginGone && !isBeginExported ? 'incomplete' : 'ok',
    id: info.id, host: info.host, path: info.path, topic: info.topic, partition: info.partition, generation: info.generation,
    start, position,
    records: chain.records,
    sha256: stream.hash.digest('hex'),
    source: sourceWord(stream),
    exported: exports !== undefined && exports.exportedOffset > info.lastOffset,
    problems, notes,
  }
}

function logProblems({ info, chain, problems }: WalkedStream): string[] {
  const texts = problems.texts.map((text) => `log: ${text}`)
  if (problems.count > texts.length) texts.push(`log: and ${problems.count - texts.length} more`)
  if (chain.start === undefined) return texts
  if (chain.position < info.position) texts.push(`log: bytes ${chain.position} to ${info.position} are missing, the collector answered for them`)
  if (chain.position === info.position && chain.tailHashEnd?.toString('hex') !== info.tailHash) {
    texts.push(`stream table: tail hash at ${info.position} is not that of the log`)
  }
  return texts
}

/** The bytes came out all the same, from the export; the disk has lost its copy. */
function diskProblems({ info }: WalkedStream, damages: readonly Damage[]): string[] {
  return damages.filter((damage) => touches(damage, info)).map(({ message }) => `disk: ${message}`)
}

/** Above the position: as far as an agent knows, or not at all. A source that is here speaks for itself. */
function setBackProblems({ info, source }: WalkedStream, { sinceMs, missing, confirmed }: SetBack): string[] {
  const told = missing.get(info.id)
  if (told !== undefined && told.position > info.position) return [toldProblem(told, info.position)]
  // Closed: its agent had shipped all of it when the file went.
  const isKnown = sinceMs === undefined || !info.open || info.lastAppendMs >= sinceMs || confirmed.has(info.id) || source.kind === 'present' || source.kind === 'replaced'
  return isKnown ? [] : [`log: unknown above ${info.position}: the data folder was set back or restored, and nobody has said how far this stream was`]
}

function toldProblem({ agentId, position }: MissingStream, from: number): string {
  return `log: bytes ${from} to ${position} are missing: they were acknowledged to agent ${agentId} before the data folder was set back`
}

/** A stream that began behind the older copy: nothing of it is left but what its agent says. */
export function judgeLostStream(told: MissingStream): StreamVerdict {
  const { id, host, path, topic } = told
  return {
    kind: 'stream', verdict: 'differs', id, host, path, topic, partition: 0, generation: 0, start: 0, position: 0, records: 0,
    sha256: createHash('sha256').digest('hex'), source: 'elsewhere', exported: false, problems: [toldProblem(told, 0)], notes: ['the log knows nothing of this stream'],
  }
}

function touches(damage: Damage, stream: StreamInfo): boolean {
  return damage.fromOffset <= stream.lastOffset && damage.toOffset > stream.firstOffset
}

/** Damage that no stream answers for: of posted lines. */
export function damagesBeside(damages: readonly Damage[], streams: readonly StreamInfo[]): Damage[] {
  return damages.filter((damage) => !streams.some((stream) => touches(damage, stream)))
}

function sourceProblems({ source, differences, chain }: WalkedStream): string[] {
  if (source.kind !== 'present') return []
  const texts = differences.ranges.map(({ from, to }) => `source: bytes ${from} to ${to} are others in ${source.path}`)
  if (differences.more > 0) texts.push(`source: and ${differences.more} more ranges`)
  if (chain.start !== undefined && source.size < chain.position && texts.length === 0) {
    texts.push(`source: ${source.path} ends at byte ${source.size}, the log has ${chain.position}`)
  }
  return texts
}

function sourceWord({ source, differences }: WalkedStream): StreamVerdict['source'] {
  if (source.kind !== 'present') return source.kind
  return differences.ranges.length === 0 ? 'same' : 'differs'
}

function sourceNotes(source: SourceState): string[] {
  return source.kind === 'unreadable' ? [`source cannot be read: ${source.reason}`] : []
}

/** Whether good exported segments hold every offset of [from, to). */
function holdsRange(exports: ExportInfo, from: number, to: number): boolean {
  let covered = from
  const segments = [...exports.segments].sort((a, b) => a.baseOffset - b.baseOffset)
  for (const { baseOffset, nextOffset, name, check } of segments) {
    if (name === null || (check !== undefined && check !== 'ok')) continue
    if (baseOffset <= covered && nextOffset > covered) covered = nextOffset
  }
  return covered >= to
}

export interface PartitionFacts {
  readonly topic: string
  readonly partition: number
  readonly endOffset: number
  readonly walked: WalkedPartition
  readonly exports: ExportInfo | undefined
  /** Ids of streams that the log holds and the stream table does not know. */
  readonly lostStreams: readonly string[]
  /** Of no stream. */
  readonly damages: readonly Damage[]
}

export function judgePartition({ topic, partition, endOffset, walked, exports, lostStreams, damages }: PartitionFacts): PartitionVerdict {
  const problems = walked.problems.texts.map((text) => `log: ${text}`)
  if (walked.problems.count > problems.length) problems.push(`log: and ${walked.problems.count - problems.length} more`)
  problems.push(...lostStreams.map((id) => `stream table: does not know stream ${id}, which the log holds`))
  problems.push(...damages.map(({ message }) => `disk: ${message}`))
  if (exports !== undefined) problems.push(...exportProblems(exports, walked.firstOffset))
  return {
    kind: 'partition', verdict: problems.length > 0 ? 'differs' : 'ok', topic, partition,
    firstOffset: walked.firstOffset, endOffset, batches: walked.batches, bytes: walked.bytes,
    exportedSegments: exports?.segments.filter(({ name }) => name !== null).length ?? 0,
    problems,
  }
}

function exportProblems(exports: ExportInfo, firstOffset: number): string[] {
  const problems = exports.segments
    .filter(({ check }) => check !== undefined && check !== 'ok')
    .map(({ baseOffset, nextOffset, check, name }) => `export: offsets ${baseOffset} to ${nextOffset}: ${check ?? ''} (${name ?? 'no name'})`)
  if (exports.exportedOffset < firstOffset) problems.push(`export: offsets ${exports.exportedOffset} to ${firstOffset} are neither exported nor in the log`)
  if (exports.state === 'gap') problems.push(`export: ${exports.reason ?? 'there is a gap'}`)
  return problems
}

/** Streams whose table entry has a name that the walk met; for telling lost ones from ones that began meanwhile. */
export function lostAmong(unknown: ReadonlySet<string>, known: Iterable<StreamInfo>): string[] {
  const left = new Set(unknown)
  for (const { id } of known) left.delete(id)
  return [...left].sort()
}
