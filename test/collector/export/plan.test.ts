import { describe, expect, test } from 'vitest'
import type { ExportedSegment, SegmentProgress } from '../../../collector/export/journal-format.ts'
import { nextWork, progressOf } from '../../../collector/export/plan.ts'
import type { SegmentInfo } from '../../../collector/storage/topic-log.ts'
import { toOffset, type Offset } from '../../../shared/types.ts'

type Kind = 'planned' | 'encoded' | 'recorded' | 'checked' | 'damaged' | 'skipped'

function progress(kind: Kind): SegmentProgress {
  if (kind === 'recorded' || kind === 'checked') return { kind: 'recorded', files: [], maxTimestampMs: null, isChecked: kind === 'checked' }
  if (kind === 'encoded') return { kind, files: [], maxTimestampMs: null, progress: new Map() }
  if (kind === 'skipped') return { kind, isVoid: false }
  return kind === 'damaged' ? { kind, reason: 'rot' } : { kind }
}

function exported(...entries: readonly (readonly [number, number, Kind])[]): Map<Offset, ExportedSegment> {
  return new Map(
    entries.map(([base, next, kind]) => [
      toOffset(base),
      { key: { topic: 'app', partition: 0, baseOffset: toOffset(base), nextOffset: toOffset(next), epoch: 1 }, progress: progress(kind) },
    ]),
  )
}

function sealed(...ranges: readonly (readonly [number, number])[]): SegmentInfo[] {
  return ranges.map(([base, next]) => ({
    topic: 'app',
    partition: 0,
    baseOffset: toOffset(base),
    nextOffset: toOffset(next),
    sizeBytes: 1,
    isSealed: true,
    firstAppendMs: 0,
    lastAppendMs: 0,
    maxTimestampMs: 0,
    files: { log: '', index: '', timeIndex: '', meta: '' },
  }))
}

function decide(local: SegmentInfo[], known: Map<Offset, ExportedSegment>, retryDamaged = false): string {
  const work = nextWork(local, known, { retryDamaged })
  if (work.kind === 'segment') return `segment ${work.segment.baseOffset}`
  return work.kind === 'gap' ? `gap ${work.fromOffset}-${work.toOffset}` : 'idle'
}

describe('what is exported next', () => {
  test.each([
    { what: 'nothing where nothing is sealed', local: sealed(), known: exported(), expected: 'idle' },
    { what: 'the oldest segment where nothing was exported, wherever it begins', local: sealed([50, 60], [60, 70]), known: exported(), expected: 'segment 50' },
    { what: 'the one behind the last', local: sealed([0, 10], [10, 20]), known: exported([0, 10, 'recorded']), expected: 'segment 10' },
    { what: 'nothing when all is exported', local: sealed([0, 10]), known: exported([0, 10, 'recorded']), expected: 'idle' },
    { what: 'nothing when retention took what was exported', local: sealed(), known: exported([0, 10, 'checked']), expected: 'idle' },
    { what: 'an unfinished one first', local: sealed([0, 10], [10, 20]), known: exported([0, 10, 'encoded']), expected: 'segment 0' },
    { what: 'a gap where the next segment begins too late', local: sealed([15, 20]), known: exported([0, 10, 'recorded']), expected: 'gap 10-15' },
    { what: 'an empty gap where segments overlap', local: sealed([5, 20]), known: exported([0, 10, 'recorded']), expected: 'gap 10-10' },
    { what: 'a gap where an unfinished segment is gone', local: sealed([10, 20]), known: exported([0, 10, 'planned']), expected: 'gap 0-10' },
    { what: 'the segment that a lost journal record leaves out', local: sealed([0, 10], [10, 20], [20, 30]), known: exported([0, 10, 'recorded'], [20, 30, 'recorded']), expected: 'segment 10' },
    { what: 'a gap where that one is gone too', local: sealed([20, 30]), known: exported([0, 10, 'recorded'], [20, 30, 'recorded']), expected: 'gap 10-20' },
    { what: 'those behind a damaged one', local: sealed([0, 10], [10, 20]), known: exported([0, 10, 'damaged']), expected: 'segment 10' },
    { what: 'those behind offsets that were given up', local: sealed([20, 30]), known: exported([0, 10, 'recorded'], [10, 20, 'skipped']), expected: 'segment 20' },
  ])('$what', ({ local, known, expected }) => {
    expect(decide(local, known)).toBe(expected)
  })

  test('a damaged one again when its time has come', () => {
    expect(decide(sealed([0, 10], [10, 20]), exported([0, 10, 'damaged'], [10, 20, 'recorded']), true)).toBe('segment 0')
  })
})

describe('how far an export came', () => {
  test.each([
    { what: 'nowhere', known: exported(), recorded: undefined, checked: undefined },
    { what: 'to the end of what is recorded without a hole', known: exported([0, 10, 'checked'], [10, 20, 'recorded'], [30, 40, 'checked']), recorded: 20, checked: 10 },
    { what: 'not past a damaged segment', known: exported([0, 10, 'checked'], [10, 20, 'damaged'], [20, 30, 'checked']), recorded: 10, checked: 10 },
    { what: 'past offsets that were given up', known: exported([0, 10, 'checked'], [10, 20, 'skipped'], [20, 30, 'checked']), recorded: 30, checked: 30 },
    { what: 'in the order of offsets, not of the journal', known: exported([10, 20, 'checked'], [0, 10, 'checked']), recorded: 20, checked: 20 },
    { what: 'not past one that is unchecked, for retention', known: exported([0, 10, 'recorded'], [10, 20, 'checked']), recorded: 20, checked: undefined },
  ])('$what', ({ known, recorded, checked }) => {
    expect(progressOf(known)).toEqual({ recordedOffset: recorded, checkedOffset: checked })
  })
})
