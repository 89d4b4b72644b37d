/**
 * What is to be done with a file between its turns, as pure decisions: whether an unterminated line has waited long
 * enough, whether a rotated or deleted file is finished. Only for such files is there anything to decide.
 */
import type { SourceFile } from './source-file.ts'

export interface TendingLimits {
  readonly unterminatedAfterMs: number
  readonly rotateGraceMs: number
  /** `--once`: what is there is all there is. */
  readonly isOnce: boolean
}

export type Tending =
  | { readonly kind: 'nothing' }
  /** Take the unterminated line as it is. */
  | { readonly kind: 'finish line' }
  /** Its last byte is stored and nobody will write to it again. */
  | { readonly kind: 'finish file' }
  /** Bytes are left that can't be read any more. */
  | { readonly kind: 'lose'; readonly bytes: number }

export function tend(file: SourceFile, nowMs: number, limits: TendingLimits): Tending {
  const quietMs = nowMs - file.lastGrowthMs
  const mayFinish = file.isDetached && !file.isBusy && quietMs >= limits.rotateGraceMs
  if (file.cursor === undefined) return tendUntied(file, mayFinish)
  if (file.partialBytes > 0 && !file.wantsFinal && !file.isBusy && !file.isDirty) {
    if (limits.isOnce || quietMs >= limits.unterminatedAfterMs || mayFinish) return { kind: 'finish line' }
  }
  if (!mayFinish || !file.cursor.stream.isIdle) return { kind: 'nothing' }
  if (file.position >= file.size) return { kind: 'finish file' }
  if (file.handle === undefined && file.state.kind !== 'parked') return { kind: 'lose', bytes: file.size - file.position }
  return { kind: 'nothing' }
}

function tendUntied(file: SourceFile, mayFinish: boolean): Tending {
  if (!mayFinish) return { kind: 'nothing' }
  if (file.size === 0 || file.state.kind === 'ignored') return { kind: 'finish file' }
  // Not identified while the collector is away: the descriptor keeps its bytes.
  return file.handle === undefined && file.state.kind !== 'parked' ? { kind: 'lose', bytes: file.size } : { kind: 'nothing' }
}
