/**
 * Whether a batch may be appended, as a pure decision: it must begin exactly where its stream's appended position is,
 * behind the same bytes. Compared with what is appended, not with what is synced: positions in answers are the caller's
 * concern.
 */
import { AppError } from '../../shared/errors.ts'
import { NO_TAIL_HASH } from '../../shared/hashes.ts'
import type { SourceHeader } from '../../shared/source-header.ts'

export interface AppendedPosition {
  readonly position: number
  readonly tailHash: Buffer
  readonly recordCount: number
}

export type Acceptance = 'accept' | 'have' | 'expected' | 'diverged'

export const STREAM_BEGIN: AppendedPosition = { position: 0, tailHash: NO_TAIL_HASH, recordCount: 0 }

/** Throws INVALID_RECORD for a batch that can't be right whatever the stream's position is. */
export function judge(appended: AppendedPosition, source: SourceHeader): Acceptance {
  if (source.end <= source.start) throw new AppError('INVALID_RECORD', `the batch covers no source bytes: ${source.start} to ${source.end}`)
  if (source.start < appended.position) return 'have'
  if (mayBeginInside(appended, source)) return 'accept'
  if (source.start > appended.position) return 'expected'
  if (!source.tailHashStart.equals(appended.tailHash)) return 'diverged'
  if (source.firstOrdinal !== appended.recordCount) {
    throw new AppError('INVALID_RECORD', `first ordinal ${source.firstOrdinal}, but the stream has ${appended.recordCount} records at ${source.start}`)
  }
  return 'accept'
}

/** A stream of which nothing is known may begin where its agent was told to begin: at the end of the file of then. */
function mayBeginInside(appended: AppendedPosition, source: SourceHeader): boolean {
  return source.beginsInside === true && source.firstOrdinal === 0 && appended.position === 0 && appended.recordCount === 0
}
