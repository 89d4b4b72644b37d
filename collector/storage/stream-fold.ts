/**
 * The fold: how one batch of the log changes what is known of its stream. The same function serves the running
 * collector (at each commit) and recovery (over what is on disk), so the two can't come to different positions.
 */
import type { BatchHeader } from '../../shared/record-batch.ts'
import type { SourceHeader } from '../../shared/source-header.ts'
import type { FilePosition } from '../../shared/types.ts'
import type { StreamState } from './topic-log.ts'

export interface FoldInput {
  readonly topic: string
  readonly partition: number
  readonly header: BatchHeader
  readonly source: SourceHeader
  readonly appendMs: number
}

/** A hole or an overlap in a stream, which only damage can cause. */
export interface StreamBreak {
  readonly streamId: Buffer
  readonly expected: FilePosition | undefined
  readonly found: FilePosition
}

/** Whether the batch goes on exactly where its stream stands. */
export function continues(previous: Pick<StreamState, 'position'> | undefined, source: SourceHeader): boolean {
  if (previous === undefined && source.beginsInside === true) return true
  return source.start === (previous?.position ?? 0)
}

export function foldBatch(previous: StreamState | undefined, input: FoldInput): StreamState {
  const { header, source } = input
  // Only a stream's first batch says which generation it takes the place of; recovery may show us its last one alone.
  const supersedes = source.supersedes ?? previous?.source.supersedes
  return {
    source: { ...source, supersedes },
    topic: input.topic,
    partition: input.partition,
    keyPath: previous?.keyPath ?? source.path,
    position: source.end,
    tailHash: source.tailHashEnd,
    recordCount: source.firstOrdinal + header.recordCount,
    firstOffset: previous?.firstOffset ?? header.baseOffset,
    lastOffset: header.lastOffset,
    lastAppendMs: Math.max(input.appendMs, previous?.lastAppendMs ?? 0),
    isSuperseded: previous?.isSuperseded ?? false,
    isOpen: true,
  }
}
