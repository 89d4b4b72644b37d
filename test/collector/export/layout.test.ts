import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ownerFileName, parseOwnerName, parseSegmentPath, quarantinePath, segmentFileKinds, segmentPath, tempPath } from '../../../collector/export/layout.ts'
import { toOffset } from '../../../shared/types.ts'

const topics = fc.stringMatching(/^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,199}$/)
const keys = fc
  .record({ topic: topics, partition: fc.nat(9999), base: fc.nat({ max: 2 ** 52 }), count: fc.nat(1_000_000), epoch: fc.nat(1_000_000) })
  .map(({ topic, partition, base, count, epoch }) => ({ topic, partition, baseOffset: toOffset(base), nextOffset: toOffset(base + count), epoch }))

describe('names on the store', () => {
  test('are what the design says', () => {
    const key = { topic: 'app', partition: 3, baseOffset: toOffset(7), nextOffset: toOffset(42), epoch: 2 }
    expect(segmentPath(key, 'log')).toBe('raw/app/p=3/00000000000000000007-00000000000000000042-2.log')
    expect(ownerFileName({ boot: 4, sequence: 12 })).toBe('0000000004-0000000012.json')
  })

  test('a segment path parses back to its key, and to no other path', () => {
    fc.assert(
      fc.property(keys, fc.constantFrom(...segmentFileKinds), (key, kind) => {
        expect(parseSegmentPath(segmentPath(key, kind))).toEqual({ key, kind })
      }),
    )
  })

  test('every part of every name fits HDFS: at most 255 bytes, nothing but plain characters', () => {
    fc.assert(
      fc.property(keys, fc.constantFrom(...segmentFileKinds), (key, kind) => {
        for (const path of [segmentPath(key, kind), tempPath(key, kind, 'a'.repeat(16)), quarantinePath(key, kind, 'a'.repeat(8))]) {
          expect(path).toMatch(/^[A-Za-z0-9._=/-]+$/)
          for (const part of path.split('/')) expect(part.length).toBeLessThanOrEqual(255)
        }
      }),
    )
  })

  test.each(['', 'raw/app/p=0/x.log', 'raw/../p=0/00000000000000000007-00000000000000000042-2.log', 'raw/app/p=00/00000000000000000007-00000000000000000042-2.log', 'raw/app/p=0/00000000000000000042-00000000000000000007-2.log', 'raw/app/p=0/99999999999999999999-99999999999999999999-2.log', 'other/app/p=0/00000000000000000007-00000000000000000042-2.log'])('%j is no segment path', (path) => {
    expect(parseSegmentPath(path)).toBeUndefined()
  })

  test('owner names sort by age', () => {
    const names = [{ boot: 2, sequence: 1 }, { boot: 1, sequence: 200 }, { boot: 1, sequence: 3 }].map(ownerFileName)
    expect([...names].sort()).toEqual([names[2], names[1], names[0]])
    expect(parseOwnerName('0000000001-0000000200.json')).toEqual({ boot: 1, sequence: 200 })
    expect(parseOwnerName('0000000001-0000000200.json.tmp')).toBeUndefined()
  })
})
