/**
 * A stream as the collector describes it, in the types that the agent works with. Facts only; what they mean for a file
 * is decided in identity.ts.
 */
import type { HashText } from '../shared/hashes.ts'
import type { StreamInfo } from '../shared/wire.ts'

export interface KnownStream {
  readonly id: HashText
  readonly topic: string
  readonly inode: bigint
  readonly birthtimeNs: bigint
  readonly generation: number
  readonly isSuperseded: boolean
  readonly isOpen: boolean
  readonly position: number
  readonly tailHash: HashText
  readonly headLength: number
  readonly headHash: HashText
  readonly recordCount: number
  /** Path of the newest batch. */
  readonly path: string
  /** Path in the record key. */
  readonly keyPath: string
  /** As our own batches will leave it that are on their way: nobody has said yet that they arrived. */
  readonly isOrphan: boolean
  /** The collector's clock; undefined while nothing of it has arrived. */
  readonly lastAppendMs: number | undefined
}

export function knownStream(info: StreamInfo): KnownStream {
  return {
    id: info.id,
    topic: info.topic,
    inode: BigInt(info.inode),
    birthtimeNs: BigInt(info.birthtimeNs),
    generation: info.generation,
    isSuperseded: info.superseded,
    isOpen: info.open,
    position: info.position,
    tailHash: info.tailHash,
    headLength: info.headLength,
    headHash: info.headHash,
    recordCount: info.records,
    // One string where both are the same, as of nearly all: there may be ten thousand.
    path: info.path === info.keyPath ? info.keyPath : info.path,
    keyPath: info.keyPath,
    isOrphan: false,
    lastAppendMs: info.lastAppendMs,
  }
}
