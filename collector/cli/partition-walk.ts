/**
 * Walks one partition's log from its start to a pinned end, opens every batch and judges it: CRC, contents, offsets
 * without a gap, and for each wanted stream its chain, its SHA-256 and the comparison with its source. What `verify`
 * prints is made from the answer. Memory: one page of batches, and for each stream a hash and at most 64 KiB.
 */
import { createHash, type Hash } from 'node:crypto'
import { toAppError } from '../../shared/errors.ts'
import { producerOf } from '../../shared/record-batch.ts'
import type { StreamInfo } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { CollectorClient } from './collector-client.ts'
import { batchesIn, fetchPages, type RawBatch } from './fetch-batches.ts'
import { openBatch, type OpenedBatch } from './opened-batch.ts'
import { SourceDifferences, type SourceReader, type SourceState } from './source-compare.ts'
import { problemText, StreamChain } from './stream-chain.ts'

/** Streams whose tails are kept for checking tail hashes, 64 KiB each. */
const TAILS_MAX = 256
const PROBLEMS_MAX = 20

/** What was found wrong with one thing; a long list is cut, but counted. */
export class ProblemList {
  readonly texts: string[] = []
  count = 0

  add(text: string): void {
    this.count += 1
    if (this.texts.length < PROBLEMS_MAX) this.texts.push(text)
  }
}

export interface WalkedStream {
  readonly info: StreamInfo
  readonly source: SourceState
  readonly chain: StreamChain
  readonly hash: Hash
  readonly problems: ProblemList
  readonly differences: SourceDifferences
}

export function beginStream(info: StreamInfo, source: SourceState): WalkedStream {
  return {
    info, source, chain: new StreamChain(), hash: createHash('sha256'), problems: new ProblemList(), differences: new SourceDifferences(),
  }
}

export interface PartitionWalk {
  readonly topic: string
  readonly partition: number
  /** Pinned: the high watermark when the command began. */
  readonly endOffset: number
  /** By stream id in hex. */
  readonly streams: ReadonlyMap<string, WalkedStream>
  /** Batches of other streams are skipped. */
  readonly onlyStreams: boolean
  /** Offsets [from, to) that a restore passed over: no record has them. */
  readonly voids: readonly { readonly from: number; readonly to: number }[]
}

export interface WalkedPartition {
  /** What the collector says: what is below was dropped by retention. */
  logStartOffset: number
  /** First offset that the log still holds; the end when it is empty. */
  firstOffset: number
  readonly problems: ProblemList
  /** Streams in the log that were not asked about, by id. */
  readonly unknownStreams: Set<string>
  batches: number
  bytes: number
}

export interface WalkTools {
  readonly client: CollectorClient
  readonly zstd: Zstd
  readonly sources: SourceReader
  readonly onProgress: (walked: WalkedPartition) => Promise<void>
}

/** Streams in the log beyond these are not named one by one. */
const UNKNOWN_MAX = 10_000

export async function walkPartition(walk: PartitionWalk, tools: WalkTools): Promise<WalkedPartition> {
  const walked: WalkedPartition = {
    logStartOffset: walk.endOffset, firstOffset: walk.endOffset, problems: new ProblemList(), unknownStreams: new Set(), batches: 0, bytes: 0,
  }
  const tails = new TailBudget()
  const producers = walk.onlyStreams ? producersOf(walk.streams) : undefined
  const only = walk.onlyStreams && walk.streams.size === 1 ? [...walk.streams.values()][0] : undefined
  let expected: number | undefined
  const range = {
    topic: walk.topic, partition: walk.partition, offset: only?.info.firstOffset ?? 0, endOffset: walk.endOffset,
    ...(only === undefined ? {} : { streamId: only.info.id }),
  }
  for await (const page of fetchPages(tools.client, range)) {
    walked.logStartOffset = page.logStartOffset
    for (const batch of batchesIn(page.batches)) {
      const { baseOffset, lastOffset } = batch.header
      if (expected === undefined) {
        walked.firstOffset = baseOffset
        // Above the log start means that damage, not retention, took what was before.
        if (only === undefined && baseOffset > page.logStartOffset) walked.problems.add(offsetProblem(page.logStartOffset, baseOffset))
      }
      // A single stream's batches do not follow each other; there its own chain tells of holes.
      else if (only === undefined && !isVoid(walk, { from: expected, to: baseOffset })) walked.problems.add(offsetProblem(expected, baseOffset))
      expected = lastOffset + 1
      if (producers?.has(batch.header.producerId) === false) continue
      await judgeBatch(batch, { walk, walked, tools, tails })
    }
    await tools.onProgress(walked)
  }
  const end = expected ?? Math.min(walked.logStartOffset, walk.endOffset)
  if (only === undefined && !isVoid(walk, { from: end, to: walk.endOffset })) walked.problems.add(offsetProblem(end, walk.endOffset))
  return walked
}

/** Whether nothing is missing from `from` on; `to` below it is an overlap. */
function isVoid({ voids }: PartitionWalk, { from, to }: { from: number; to: number }): boolean {
  const behind = voids.find((each) => each.from <= from && from < each.to)
  return from === to || (behind !== undefined && behind.to >= to && to > from)
}

/** The batch header's producer id tells the stream without opening the batch. */
function producersOf(streams: PartitionWalk['streams']): ReadonlySet<bigint> {
  return new Set([...streams.keys()].map((id) => producerOf(Buffer.from(id, 'hex'), 0).producerId))
}

function offsetProblem(expected: number, found: number): string {
  return found > expected ? `offsets ${expected} to ${found} are missing` : `offset ${found} comes twice, ${expected} was expected`
}

interface Judging {
  readonly walk: PartitionWalk
  readonly walked: WalkedPartition
  readonly tools: WalkTools
  readonly tails: TailBudget
}

async function judgeBatch(batch: RawBatch, { walk, walked, tools, tails }: Judging): Promise<void> {
  walked.batches += 1
  walked.bytes += batch.bytes.length
  let opened: OpenedBatch
  try {
    opened = openBatch(batch, tools.zstd)
  } catch (error) {
    const { code, message } = toAppError(error)
    walked.problems.add(`batch at offset ${batch.header.baseOffset} is damaged: ${message} (${code})`)
    return
  }
  if (opened.source === undefined) return
  const id = opened.source.streamId.toString('hex')
  const stream = walk.streams.get(id)
  if (stream === undefined) {
    if (walked.unknownStreams.size < UNKNOWN_MAX) walked.unknownStreams.add(id)
    return
  }
  const { source, content } = opened
  const step = stream.chain.add(source, content, opened.header.recordCount)
  for (const problem of step.problems) stream.problems.add(`${problemText(problem)} (offset ${opened.header.baseOffset})`)
  tails.used(stream.chain)
  const fresh = content.subarray(step.skipBytes)
  stream.hash.update(fresh)
  if (stream.source.kind !== 'present') return
  const difference = await tools.sources.differs(stream.source.path, source.start + step.skipBytes, fresh)
  if (difference !== undefined) stream.differences.add(difference)
}

/** Keeps the tails of the streams used last; the others forget theirs and check again when they have seen enough. */
class TailBudget {
  private readonly chains = new Set<StreamChain>()

  used(chain: StreamChain): void {
    this.chains.delete(chain)
    this.chains.add(chain)
    if (this.chains.size <= TAILS_MAX) return
    const oldest = this.chains.values().next().value
    if (oldest === undefined) return
    oldest.forgetTail()
    this.chains.delete(oldest)
  }
}
