/** Where a batch may begin. */
import { expect, test } from 'vitest'
import { judge, STREAM_BEGIN } from '../../../collector/storage/acceptance.ts'
import { continues } from '../../../collector/storage/stream-fold.ts'
import { NO_TAIL_HASH } from '../../../shared/hashes.ts'
import { decodeSourceHeader, encodeSourceHeader, type SourceHeader } from '../../../shared/source-header.ts'
import { toPosition } from '../../../shared/types.ts'

function source(fields: Partial<SourceHeader> = {}): SourceHeader {
  const hash = Buffer.alloc(16, 1)
  return {
    streamId: hash, agentId: 'a', host: 'h', path: '/p', inode: 1n, birthtimeNs: 2n, generation: 1, supersedes: undefined, firstOrdinal: 0,
    start: toPosition(0), end: toPosition(10), tailHashStart: NO_TAIL_HASH, tailHashEnd: hash, sourceHash: hash, headLength: 10, headHash: hash,
    endsWithEof: false, ...fields,
  }
}

const inside = source({ start: toPosition(100), end: toPosition(110), tailHashStart: Buffer.alloc(16, 2), beginsInside: true })

test('a stream may begin inside a file only if it says so, and only as its first batch', () => {
  expect(judge(STREAM_BEGIN, inside)).toBe('accept')
  expect(judge(STREAM_BEGIN, source({ start: toPosition(100), end: toPosition(110) }))).toBe('expected')
  expect(judge(STREAM_BEGIN, { ...inside, firstOrdinal: 3 })).toBe('expected')
  expect(judge({ position: 50, tailHash: NO_TAIL_HASH, recordCount: 5 }, inside)).toBe('expected')
})

test('recovery takes the same first batch as the running collector', () => {
  expect(continues(undefined, inside)).toBe(true)
  expect(continues(undefined, source({ start: toPosition(100), end: toPosition(110) }))).toBe(false)
  expect(continues({ position: toPosition(50) }, inside)).toBe(false)
})

test('the mark survives encoding, and is absent where it was not set', () => {
  expect(decodeSourceHeader(encodeSourceHeader(inside))).toEqual(inside)
  expect(decodeSourceHeader(encodeSourceHeader(source()))).toEqual(source())
})
