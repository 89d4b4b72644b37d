/** Bytes from Kafka's own Java client (test/golden), read by our code, field by field. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { partitionOf, murmur2 } from '../../shared/hashes.ts'
import { decodeRecords, hasValidCrc, patchBatch, peekBatchSize, readBatchHeader, readSourceHeaderBytes } from '../../shared/record-batch.ts'
import { toOffset } from '../../shared/types.ts'
import { hasNativeZstd, loadZstd, type Zstd } from '../../shared/zstd.ts'
import { describeBatch, describeHeader, type DescribedBatch } from '../golden/describe-batch.ts'

const CONTENT_BYTES_MAX = 8 * 1024 * 1024

function golden(name: string): Buffer {
  return readFileSync(new URL(`../golden/${name}`, import.meta.url))
}

/** The files hold one batch each. */
function readByKafka(name: string): DescribedBatch {
  const [batch] = JSON.parse(golden(`${name}.json`).toString('utf8')) as DescribedBatch[]
  if (batch === undefined) throw new Error(`${name}.json holds no batch`)
  return batch
}

const codecs: readonly Zstd['name'][] = hasNativeZstd() ? ['node:zlib', 'zstd-codec'] : ['zstd-codec']

describe.each(codecs)('with %s', (codec) => {
  test.each(['plain', 'zstd-one-frame', 'log-append-time', 'control'])('a %s batch of Kafka reads as Kafka reads it', async (name) => {
    const zstd = await loadZstd({ codec })
    expect(describeBatch(golden(`${name}.batch`), zstd)).toEqual(readByKafka(name))
  })

  test('the first record of a batch of Kafka gives its tr header as it stands there', async () => {
    const zstd = await loadZstd({ codec })
    expect(readSourceHeaderBytes(golden('zstd-one-frame.batch'), zstd, CONTENT_BYTES_MAX)?.toString()).toBe('not a source header')
  })

  test('a frame without a content size, as a streaming producer makes it, is refused by name and not misread', async () => {
    const zstd = await loadZstd({ codec })
    const batch = golden('zstd-streamed.batch')
    const { records, ...header } = readByKafka('zstd-streamed')
    expect(records).toHaveLength(header.recordCount)
    expect(describeHeader(readBatchHeader(batch), batch)).toEqual(header)
    expect(() => decodeRecords(batch, zstd, CONTENT_BYTES_MAX)).toThrowError(expect.objectContaining({ code: 'UNSUPPORTED_COMPRESSION' }))
  })
})

test('the size of a batch of Kafka is known from its first 12 bytes', () => {
  const batch = golden('plain.batch')
  expect(peekBatchSize(batch.subarray(0, 12))).toBe(batch.length)
})

test('patching offset and leader epoch changes those twelve bytes of a batch of Kafka and keeps its CRC', () => {
  const original = golden('plain.batch')
  const patched = Buffer.from(original)
  patchBatch(patched, { baseOffset: toOffset(2 ** 40 + 3), leaderEpoch: 9 })
  expect(hasValidCrc(patched)).toBe(true)
  expect(readBatchHeader(patched)).toMatchObject({ baseOffset: 2 ** 40 + 3, leaderEpoch: 9, crc: readByKafka('plain').crc })
  expect(patched.subarray(8, 12)).toEqual(original.subarray(8, 12))
  expect(patched.subarray(16)).toEqual(original.subarray(16))
})

test('any flipped byte behind the CRC field of a batch of Kafka is seen', () => {
  const batch = golden('plain.batch')
  for (let at = 17; at < batch.length; at += 1) {
    const flipped = Buffer.from(batch)
    flipped.writeUInt8(flipped.readUInt8(at) ^ 0x40, at)
    expect(hasValidCrc(flipped), `byte ${at}`).toBe(false)
  }
})

interface Murmur2Vector {
  readonly key: string
  readonly murmur2: number
  readonly of4: number
  readonly of7: number
}

test('a key hashes and lands in the partition that the Java producer chooses', () => {
  const vectors = JSON.parse(golden('murmur2.json').toString('utf8')) as Murmur2Vector[]
  expect(vectors.length).toBeGreaterThan(64)
  for (const vector of vectors) {
    const key = Buffer.from(vector.key, 'hex')
    expect({ key: vector.key, murmur2: murmur2(key), of4: partitionOf(key, 4), of7: partitionOf(key, 7) }).toEqual(vector)
  }
})
