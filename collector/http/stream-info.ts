/** A stream's state as JSON: the shape of `streamSchema`. */
import type { StreamInfo } from '../../shared/wire.ts'
import type { StreamState } from '../storage/topic-log.ts'

function streamInfo(state: StreamState): StreamInfo {
  const { source } = state
  return {
    id: source.streamId.toString('hex'),
    agentId: source.agentId,
    host: source.host,
    path: source.path,
    keyPath: state.keyPath,
    topic: state.topic,
    partition: state.partition,
    inode: String(source.inode),
    birthtimeNs: String(source.birthtimeNs),
    headLength: source.headLength,
    headHash: source.headHash.toString('hex'),
    generation: source.generation,
    supersedes: source.supersedes ?? null,
    superseded: state.isSuperseded,
    position: state.position,
    tailHash: state.tailHash.toString('hex'),
    records: state.recordCount,
    firstOffset: state.firstOffset,
    lastOffset: state.lastOffset,
    lastAppendMs: state.lastAppendMs,
    endsWithEof: source.endsWithEof,
    open: state.isOpen,
  }
}

/** Takes streams until the page is full by count or by size; names may be long, and an answer must stay readable. */
export class StreamPage {
  readonly streams: StreamInfo[] = []
  private readonly limits: { readonly countMax: number; readonly bytesMax: number }
  private bytes = 0

  constructor(limits: { countMax: number; bytesMax: number }) {
    this.limits = limits
  }

  /** False when it does not fit any more; the first one always fits. */
  add(state: StreamState): boolean {
    const info = streamInfo(state)
    const bytes = JSON.stringify(info).length * 3 // as UTF-8, at most
    if (this.streams.length > 0 && (this.streams.length >= this.limits.countMax || this.bytes + bytes > this.limits.bytesMax)) return false
    this.streams.push(info)
    this.bytes += bytes
    return true
  }
}
