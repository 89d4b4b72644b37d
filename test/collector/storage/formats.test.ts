/** Formats and pure decisions: names, indexes as Kafka has them, meta and recovery point, policy. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { judge, STREAM_BEGIN } from '../../../collector/storage/acceptance.ts'
import {
  asideName, isTornName, parsePartitionDirectoryName, parseSegmentName, parseSnapshotName, parseTopicFileName, partitionDirectoryName, segmentName, snapshotName,
  topicFileName,
} from '../../../collector/storage/filenames.ts'
import { OffsetIndex } from '../../../collector/storage/offset-index.ts'
import { expiredSegments, isClockStep, shouldRoll, type RetentionParams } from '../../../collector/storage/policy.ts'
import { RecoveryPointFile, type RecoveryPoint } from '../../../collector/storage/recovery-point.ts'
import { SegmentIndex } from '../../../collector/storage/segment-index.ts'
import { decodeSegmentMeta, encodeSegmentMeta, type SegmentMeta } from '../../../collector/storage/segment-meta.ts'
import { TimeIndex } from '../../../collector/storage/time-index.ts'
import type { BatchHeader } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { sealedBatch } from '../../sealed-batch.ts'
import { SimFileSystem } from '../../sim-fs.ts'

describe('names', () => {
  test('parse to what they were made of, and to nothing else', () => {
    expect(segmentName(toOffset(42), '.timeindex')).toBe('00000000000000000042.timeindex')
    expect(parseSegmentName('00000000000000000042.log')).toEqual({ baseOffset: 42, suffix: '.log' })
    for (const name of ['42.log', '00000000000000000042.txt', '99999999999999999999.log', 'x', '00000000000000000042.log.unfinished']) expect(parseSegmentName(name)).toBeUndefined()
    expect(parsePartitionDirectoryName(partitionDirectoryName('a-1', 23))).toEqual({ topic: 'a-1', partition: 23 })
    for (const name of ['a', '-1', 'a-01', 'a-', 'a-x', '.a-1', 'a b-1']) expect(parsePartitionDirectoryName(name)).toBeUndefined()
    expect(parseTopicFileName(topicFileName('a.json'))).toBe('a.json')
    expect([parseTopicFileName('.json'), parseTopicFileName('a')]).toEqual([undefined, undefined])
    expect([parseSnapshotName(snapshotName(12)), parseSnapshotName('0.snapshot'), parseSnapshotName('x.snapshot')]).toEqual([12, undefined, undefined])
    expect(isTornName(asideName({ baseOffset: toOffset(1), position: 2, crc: 3, kind: 'torn' }))).toBe(true)
  })
})

function header(facts: { lastOffset: number; sizeBytes: number; maxTimestampMs: number }): BatchHeader {
  return {
    ...facts, baseOffset: toOffset(facts.lastOffset), lastOffset: toOffset(facts.lastOffset), leaderEpoch: 0, crc: 0, attributes: 4, codec: 4, lastOffsetDelta: 0,
    baseTimestampMs: facts.maxTimestampMs, producerId: -1n, producerEpoch: -1, baseSequence: -1, recordCount: 1,
  }
}

describe('indexes', () => {
  test('have the bytes that Kafka writes: an entry once more than 4096 bytes came since the last', () => {
    const index = new SegmentIndex(toOffset(1000))
    const sizes = [4096, 1, 5000, 100, 4000, 3000, 10]
    const times = [10, 20, 15, 30, 25, 28, 29]
    let position = 0
    sizes.forEach((sizeBytes, count) => {
      index.add(header({ lastOffset: 1000 + count, sizeBytes, maxTimestampMs: times[count] ?? 0 }), position)
      position += sizeBytes
    })
    // 4096 is not more than 4096; the third batch is met with 4097 bytes, the fourth with 5000, the sixth with 4100.
    expect(index.offsets.toBytes().toString('hex')).toBe('0000000200001001' + '0000000300002389' + '0000000500003' + '38d')
    expect(index.times.toBytes().toString('hex')).toBe('0000000000000014' + '00000001' + '000000000000001e' + '00000003')
    expect(index.sealedTimes()).toEqual(index.times.toBytes())
    index.add(header({ lastOffset: 1007, sizeBytes: 1, maxTimestampMs: 99 }), position)
    expect(index.sealedTimes().subarray(24).toString('hex')).toBe('0000000000000063' + '00000007')
    expect(index.nextOffset).toBe(1008)
  })

  test('find what a plain list finds', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ step: fc.integer({ min: 1, max: 50 }), time: fc.integer({ min: 0, max: 1000 }) }), { maxLength: 300 }), fc.integer({ min: 0, max: 20_000 }), fc.integer({ min: 0, max: 1001 }), (rows, wanted, time) => {
        const offsets = new OffsetIndex(toOffset(5))
        const times = new TimeIndex(toOffset(5))
        const plain: { offset: number; position: number }[] = []
        const plainTimes: { offset: number; timestampMs: number }[] = []
        let offset = 5
        rows.forEach((row, count) => {
          offset += row.step
          offsets.append(toOffset(offset), count * 10)
          plain.push({ offset, position: count * 10 })
          if (row.time > (plainTimes.at(-1)?.timestampMs ?? -1)) plainTimes.push({ offset, timestampMs: row.time })
          times.append({ offset: toOffset(offset), timestampMs: row.time })
        })
        expect(offsets.lookup(toOffset(wanted))).toBe(plain.filter((row) => row.offset <= wanted).at(-1)?.position ?? 0)
        expect(times.lastBefore(time)).toEqual(plainTimes.filter((row) => row.timestampMs < time).at(-1))
        expect(new OffsetIndex(toOffset(5), offsets.toBytes()).entries).toBe(rows.length)
      }),
    )
  })
})

describe('small files', () => {
  const meta: SegmentMeta = {
    nextOffset: toOffset(2 ** 45), sizeBytes: 123_456, firstAppendMs: 1, lastAppendMs: 2, maxTimestampMs: -1,
    offsetIndex: { sizeBytes: 8, crc: 0xffff_ffff }, timeIndex: { sizeBytes: 12, crc: 5 },
  }

  test('a meta file gives back what it got, and nothing when a byte changed', () => {
    const bytes = encodeSegmentMeta(meta)
    expect(decodeSegmentMeta(bytes)).toEqual(meta)
    for (let at = 0; at < bytes.length; at += 1) {
      const damaged = Buffer.from(bytes)
      damaged.writeUInt8(damaged.readUInt8(at) ^ 4, at)
      expect(decodeSegmentMeta(damaged)).toBeUndefined()
    }
  })

  test('a torn recovery point leaves the one before it', async () => {
    const fs = new SimFileSystem()
    const file = await RecoveryPointFile.open(fs, '')
    const points = [1, 2, 3].map(
      (count): RecoveryPoint => ({ segmentBase: toOffset(count), position: count, nextOffset: toOffset(count), logStartOffset: toOffset(0), firstAppendMs: 0, lastAppendMs: undefined }),
    )
    for (const point of points) await file.write(point)
    expect((await RecoveryPointFile.open(fs, '')).current).toEqual(points[2])
    const bytes = fs.getFile('/recovery-point') ?? Buffer.alloc(0)
    fs.putFile('/recovery-point', Buffer.concat([bytes.subarray(0, 4096 + 40), Buffer.alloc(36)]))
    expect((await RecoveryPointFile.open(fs, '')).current).toEqual(points[1])
  })
})

describe('policy', () => {
  const active = { sizeBytes: 1000, baseOffset: toOffset(0), firstAppendMs: 100, nowMs: 200, limits: { segmentBytes: 1500, segmentAgeMs: 1000 } }
  const incoming = { bytes: 500, lastOffset: toOffset(10) }

  test.each([
    ['it fits exactly', { ...active, incoming }, false],
    ['it does not fit', { ...active, incoming: { ...incoming, bytes: 501 } }, true],
    ['the segment is empty', { ...active, sizeBytes: 0, incoming: { ...incoming, bytes: 9999 } }, false],
    ['it is over age', { ...active, nowMs: 1100, incoming: undefined }, true],
    ['it is just not over age', { ...active, nowMs: 1099, incoming: undefined }, false],
    ['it is empty and over age', { ...active, sizeBytes: 0, firstAppendMs: undefined, nowMs: 9999, incoming: undefined }, false],
    ['its first append lies in the future', { ...active, nowMs: 0, incoming }, true],
    ['the relative offset would not fit 32 bits', { ...active, incoming: { bytes: 1, lastOffset: toOffset(2 ** 31) } }, true],
  ])('whether to roll when %s', (_name, params, expected) => {
    expect(shouldRoll(params)).toBe(expected)
  })

  const sealed = [100, 200, 300].map((sizeBytes, index) => ({ sizeBytes, nextOffset: toOffset((index + 1) * 10), lastAppendMs: index * 1000 }))
  const none: RetentionParams = {
    sealed, totalBytes: 700, nowMs: 10_000, limits: { retentionBytes: undefined, retentionAgeMs: undefined }, isAgeParked: false, exportedOffset: undefined,
  }

  test.each([
    ['there is no limit', none, 0],
    ['size says two', { ...none, limits: { ...none.limits, retentionBytes: 400 } }, 2],
    ['size says not quite one', { ...none, limits: { ...none.limits, retentionBytes: 601 } }, 0],
    ['age says two', { ...none, limits: { ...none.limits, retentionAgeMs: 8500 } }, 2],
    ['age says two but is parked', { ...none, isAgeParked: true, limits: { ...none.limits, retentionAgeMs: 8500 } }, 0],
    ['only one is exported', { ...none, exportedOffset: toOffset(19), limits: { ...none.limits, retentionBytes: 0 } }, 1],
    ['all may go', { ...none, limits: { ...none.limits, retentionBytes: 0 } }, 3],
  ])('how many may go when %s', (_name, params, expected) => {
    expect(expiredSegments(params)).toBe(expected)
  })

  test('a step of the clock is more than an hour, either way', () => {
    expect([isClockStep(0, 3_600_000), isClockStep(0, 3_600_001), isClockStep(0, -3_600_001)]).toEqual([false, true, true])
  })
})

test('acceptance goes by position first, then by the bytes before it, then by the count', async () => {
  const zstd = await loadZstd()
  const first = sealedBatch({ zstd })
  const { source } = sealedBatch({ zstd, previous: first })
  const at = { position: first.source.end, tailHash: first.source.tailHashEnd, recordCount: 1 }
  expect(judge(at, source)).toBe('accept')
  expect(judge(STREAM_BEGIN, first.source)).toBe('accept')
  expect(judge(STREAM_BEGIN, source)).toBe('expected')
  expect(judge({ ...at, position: at.position + 1 }, source)).toBe('have')
  expect(judge({ ...at, position: at.position - 1 }, source)).toBe('expected')
  expect(judge({ ...at, tailHash: Buffer.alloc(16, 1) }, source)).toBe('diverged')
  expect(() => judge({ ...at, recordCount: 2 }, source)).toThrow(/ordinal/)
})
