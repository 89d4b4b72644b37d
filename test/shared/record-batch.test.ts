import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { AppError, unreachable } from '../../shared/errors.ts'
import { BATCH_HEADER_BYTES, checkBatch, decodeRecords, NO_PRODUCER, patchBatch, readBatchHeader, readFirstRecord, readSourceHeader, RecordCursor, sealBatch, type RecordMark } from '../../shared/record-batch.ts'
import { RecordsBuilder } from '../../shared/records-builder.ts'
import { encodeSourceHeader, sourceHeaderSize, type SourceHeader } from '../../shared/source-header.ts'
import { toOffset, toPosition } from '../../shared/types.ts'
import { parseFrame, plainFirstBlock } from '../../shared/zstd-frame.ts'
import { hasNativeZstd, loadZstd, type Zstd } from '../../shared/zstd.ts'

const CONTENT_MAX = 2 * 1024 * 1024
const source: SourceHeader = {
  streamId: Buffer.alloc(16, 7),
  agentId: 'agent-1', host: 'web-1', path: '/var/log/app.log',
  inode: (1n << 63n) + 5n, birthtimeNs: 1_700_000_000_123_456_789n, generation: 3, supersedes: 2,
  firstOrdinal: 2 ** 40, start: toPosition(2 ** 41), end: toPosition(2 ** 41 + 12),
  tailHashStart: Buffer.alloc(16, 1), tailHashEnd: Buffer.alloc(16, 2), sourceHash: Buffer.alloc(16, 3),
  headLength: 1024, headHash: Buffer.alloc(16, 4), endsWithEof: true,
}

interface Line {
  readonly value: Buffer
  readonly mark: RecordMark
}

function build(zstd: Zstd, lines: readonly Line[], header: SourceHeader | undefined): Buffer {
  const builder = new RecordsBuilder({
    capacity: CONTENT_MAX, key: Buffer.from('web-1:/var/log/app.log'),
    sourceHeaderBytes: header === undefined ? 0 : sourceHeaderSize(header),
  })
  lines.forEach((line, index) => {
    const fits = builder.append(line.value, { start: 0, end: line.value.length, mark: line.mark, timestampMs: 1_700_000_000_000 + index * 7 })
    expect(fits).toBe(true)
  })
  const section = builder.finish(header === undefined ? undefined : encodeSourceHeader(header))
  return sealBatch(section, [zstd.compressSync(section.raw, 1)], NO_PRODUCER)
}

function linesOf(batch: Buffer, zstd: Zstd): Line[] {
  const cursor = new RecordCursor(decodeRecords(batch, zstd, CONTENT_MAX))
  const out: Line[] = []
  while (cursor.next()) out.push({ value: Buffer.from(cursor.raw.subarray(cursor.valueStart, cursor.valueEnd)), mark: cursor.mark() })
  return out
}

function codeOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (error instanceof AppError) return error.code
    throw error
  }
  return 'none'
}

const codecs: ReadonlyArray<Zstd['name']> = hasNativeZstd() ? ['node:zlib', 'zstd-codec'] : ['zstd-codec']

describe.each(codecs)('a batch sealed by %s', (codec) => {
  let zstd: Zstd
  beforeAll(async () => {
    zstd = await loadZstd({ codec })
  })

  test('gives back every value and mark', () => {
    const line = fc.record({
      value: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
      mark: fc.constantFrom<RecordMark>('newline', 'part', 'eof'),
    })
    fc.assert(
      fc.property(fc.array(line, { minLength: 1, maxLength: 60 }), (lines) => {
        const batch = build(zstd, lines, source)
        expect(checkBatch(batch, { contentBytesMax: CONTENT_MAX }).recordCount).toBe(lines.length)
        expect(linesOf(batch, zstd)).toEqual(lines)
      }),
      { numRuns: 50 },
    )
  })

  test('carries its source header, also behind a first line longer than a zstd block', () => {
    for (const length of [0, 10, 131_000, 131_072, 500_000]) {
      const batch = build(zstd, [{ value: Buffer.alloc(length, 'ab\n'), mark: 'newline' }, { value: Buffer.from('x'), mark: 'eof' }], source)
      expect(readSourceHeader(batch, zstd, CONTENT_MAX)).toEqual(source)
    }
  })

  test('is a plain batch when it has no source header', () => {
    const batch = build(zstd, [{ value: Buffer.from('x'), mark: 'newline' }], undefined)
    expect(readSourceHeader(batch, zstd, CONTENT_MAX)).toBeUndefined()
  })

  test('keeps its CRC when base offset and leader epoch are patched', () => {
    const batch = build(zstd, [{ value: Buffer.from('x'), mark: 'newline' }], source)
    patchBatch(batch, { baseOffset: toOffset(2 ** 45 + 3), leaderEpoch: 9 })
    const header = checkBatch(batch, { contentBytesMax: CONTENT_MAX })
    expect([header.baseOffset, header.leaderEpoch]).toEqual([2 ** 45 + 3, 9])
    expect(readBatchHeader(batch).lastOffset).toBe(2 ** 45 + 3)
  })

  test('is refused with CORRUPT_MESSAGE after any flipped bit behind the CRC field', () => {
    const batch = build(zstd, [{ value: Buffer.from('hello'), mark: 'newline' }], source)
    for (let at = 21; at < batch.length; at += 1) {
      const damaged = Buffer.from(batch)
      damaged.writeUInt8(damaged.readUInt8(at) ^ 0x10, at)
      expect(codeOf(() => checkBatch(damaged, { contentBytesMax: CONTENT_MAX }))).toBe('CORRUPT_MESSAGE')
    }
  })
})

describe('frames from outside', () => {
  let zstd: Zstd
  beforeAll(async () => {
    zstd = await loadZstd()
  })
  const reseal = (frame: Buffer): Buffer =>
    sealBatch({ raw: Buffer.alloc(0), plainBytes: 0, recordCount: 1, baseTimestampMs: 0, maxTimestampMs: 0 }, [frame], NO_PRODUCER)
  const verdict = (frame: Buffer, contentBytesMax = CONTENT_MAX): string => codeOf(() => checkBatch(reseal(frame), { contentBytesMax }))

  test('two frames, trailing bytes, skippable frames, short frames and foreign bytes are refused', () => {
    const frame = zstd.compressSync(Buffer.from('x'.repeat(1000)), 1)
    expect(verdict(frame)).toBe('none')
    expect(verdict(Buffer.concat([frame, frame]))).toBe('CORRUPT_MESSAGE')
    expect(verdict(Buffer.concat([frame, Buffer.from([0])]))).toBe('CORRUPT_MESSAGE')
    expect(verdict(Buffer.concat([Buffer.from('502a4d1801000000ff', 'hex'), frame]))).toBe('CORRUPT_MESSAGE')
    expect(verdict(frame.subarray(0, frame.length - 1))).toBe('CORRUPT_MESSAGE')
    expect(verdict(Buffer.from('not a zstd frame at all'))).toBe('CORRUPT_MESSAGE')
    expect(verdict(Buffer.alloc(0))).toBe('CORRUPT_MESSAGE')
  })

  test('a bomb is refused by its header and when its header lies', () => {
    const bomb = zstd.compressSync(Buffer.alloc(CONTENT_MAX + 1), 1)
    expect(verdict(bomb)).toBe('MESSAGE_TOO_LARGE')
    const lying = Buffer.from(zstd.compressSync(Buffer.alloc(1_000_000), 1))
    lying.writeUInt32LE(1000, 5 + ((lying.readUInt8(4) & 0x20) === 0 ? 1 : 0))
    expect(codeOf(() => zstd.decompressSync(lying, CONTENT_MAX))).toBe('CORRUPT_MESSAGE')
  })

  test('a frame without content size or with a dictionary is refused', () => {
    expect(verdict(Buffer.from('28b52ffd0058010000', 'hex'))).toBe('UNSUPPORTED_COMPRESSION')
    expect(verdict(Buffer.from('28b52ffd2101020100ff', 'hex'))).toBe('UNSUPPORTED_COMPRESSION')
  })
})

test.runIf(hasNativeZstd())('frames of node:zlib and zstd-codec are read by each other', async () => {
  const native = await loadZstd()
  const wasm = await loadZstd({ codec: 'zstd-codec' })
  for (const raw of [Buffer.from('a'), Buffer.alloc(300_000, 'tailrace '), readFileSync(new URL(import.meta.url))]) {
    for (const level of [1, 3]) {
      expect(wasm.decompressSync(native.compressSync(raw, level), CONTENT_MAX).equals(raw)).toBe(true)
      expect(wasm.decompressSync(await native.compress(raw, { level, plainBytes: 0 }, (frame) => Buffer.concat(frame)), CONTENT_MAX).equals(raw)).toBe(true)
      expect(native.decompressSync(wasm.compressSync(raw, level), CONTENT_MAX).equals(raw)).toBe(true)
    }
  }
})

test('the header in front of the records is 61 bytes', () => {
  expect(BATCH_HEADER_BYTES).toBe(61)
})

test('frames that are made side by side and one after another in used memory hold what was given', async () => {
  const zstd = await loadZstd()
  const raws = Array.from({ length: 24 }, (_each, at) => (at % 3 === 0 ? randomBytes(2 * 1024 * 1024) : Buffer.alloc(70_000 * (at + 1), `line ${at}\n`)))
  const frames = await Promise.all(raws.map((raw) => zstd.compress(raw, { level: 1, plainBytes: 0 }, (frame) => Buffer.concat(frame))))
  for (const [at, frame] of frames.entries()) expect(zstd.decompressSync(frame, CONTENT_MAX).equals(raws[at] ?? Buffer.alloc(0))).toBe(true)
})

describe.each(codecs)('a frame with a plain start, made by %s', (codec) => {
  test.each([1, 200, 4096, 128 * 1024])('of %i bytes is whole for every decoder, and its start needs none', async (plainBytes) => {
    const zstd = await loadZstd({ codec })
    const lines = Buffer.from(Array.from({ length: 20_000 }, (_each, at) => `line ${at} of ${Math.imul(at, 2654435761) >>> 0}\n`).join(''))
    for (const level of [1, 9]) {
      // The rest on both sides of where the thread pool takes over.
      for (const raw of [lines.subarray(0, plainBytes + 1), lines.subarray(0, plainBytes + 20_000), lines]) {
        const frame = await zstd.compress(raw, { level, plainBytes }, (pieces) => Buffer.concat(pieces))
        for (const reader of codecs) expect((await loadZstd({ codec: reader })).decompressSync(frame, CONTENT_MAX).equals(raw)).toBe(true)
        const first = zstd.firstBlockSync(frame, CONTENT_MAX)
        expect(first.equals(raw.subarray(0, plainBytes))).toBe(true)
        expect(first.buffer).toBe(frame.buffer)
      }
    }
  })
})

test('the first record of a large batch is read without a decoder, and that of a small one with it', async () => {
  const zstd = await loadZstd()
  const noDecoder: Zstd = { ...zstd, firstBlockSync: (frame, max) => plainFirstBlock(frame, parseFrame(frame, max)) ?? unreachable('a decoder' as never) }
  const make = async (lines: number): Promise<Buffer> => {
    const key = Buffer.from('web-1:/var/log/app.log')
    const builder = new RecordsBuilder({ capacity: CONTENT_MAX, key, sourceHeaderBytes: 4 })
    const line = Buffer.from('a line of some length, as lines are')
    for (let at = 0; at < lines; at += 1) builder.append(line, { start: 0, end: line.length, mark: 'newline', timestampMs: 1 })
    const section = builder.finish(Buffer.from('head'))
    return zstd.compress(section.raw, { level: 1, plainBytes: section.plainBytes }, (frame) => sealBatch(section, frame, NO_PRODUCER))
  }
  expect(readFirstRecord(await make(2000), noDecoder, CONTENT_MAX).sourceHeader?.toString()).toBe('head')
  expect(readFirstRecord(await make(20), zstd, CONTENT_MAX).sourceHeader?.toString()).toBe('head')
})

test('a caller that fails with its frame is told, and the next frame is whole', async () => {
  const zstd = await loadZstd()
  const raw = Buffer.alloc(300_000, 'tailrace ')
  const failing = async (): Promise<never> => zstd.compress(raw, { level: 1, plainBytes: 0 }, () => {
    throw new AppError('STORAGE_ERROR', 'no room')
  })
  await expect(failing()).rejects.toMatchObject({ code: 'STORAGE_ERROR' })
  expect(zstd.decompressSync(await zstd.compress(raw, { level: 1, plainBytes: 0 }, (frame) => Buffer.concat(frame)), CONTENT_MAX).equals(raw)).toBe(true)
})

test('records are passed over by their lengths: what ends behind the position comes next', () => {
  const builder = new RecordsBuilder({ capacity: CONTENT_MAX, key: Buffer.from('k'), sourceHeaderBytes: 0 })
  const line = Buffer.alloc(300, 'x')
  for (let at = 0; at < 100; at += 1) builder.append(line, { start: 0, end: at * 3, mark: 'newline', timestampMs: 1 })
  const { raw } = builder.finish(undefined)
  const ends: number[] = []
  for (const cursor = new RecordCursor(raw); cursor.next(); ) ends.push(cursor.end)
  for (let position = 0; position <= raw.length; position += 1) {
    const cursor = new RecordCursor(raw)
    cursor.skipTo(position)
    const expected = ends.findIndex((end) => end > position)
    expect(cursor.next() ? cursor.offsetDelta : -1).toBe(expected)
  }
})
