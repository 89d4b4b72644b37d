/** Batches sealed here, read by Kafka's Java client, field by field. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { NO_PRODUCER, patchBatch, producerOf, sealBatch, type RecordMark } from '../../shared/record-batch.ts'
import { RecordsBuilder } from '../../shared/records-builder.ts'
import { toOffset } from '../../shared/types.ts'
import { hasNativeZstd, loadZstd, type Zstd } from '../../shared/zstd.ts'
import { describeBatch, type DescribedBatch } from '../golden/describe-batch.ts'
import { kafkaClassPath, reasonToSkip, runJava } from './java.ts'

const program = fileURLToPath(new URL('../golden/java/KafkaBatches.java', import.meta.url))
const codecs: readonly Zstd['name'][] = hasNativeZstd() ? ['node:zlib', 'zstd-codec'] : ['zstd-codec']
const skipReason = reasonToSkip('test/real/kafka-client.test.ts')

interface Line {
  readonly value: Buffer
  readonly mark: RecordMark
  readonly timestampMs: number
}

const key = Buffer.from('höst-1:/var/log/日本語 access.log')
const sourceHeader = Buffer.from(Array.from({ length: 230 }, (_, index) => index))
const streamId = Buffer.from('f7c3bc1d808e04732adf679965ccc34c', 'hex')
const FIRST_ORDINAL = 2 ** 31 - 2

/** Every shape of record that an agent makes, then enough of them for several zstd blocks. */
function lines(): readonly Line[] {
  const now = 1_763_800_000_000
  const shapes: Line[] = [
    { value: Buffer.from('a line'), mark: 'newline', timestampMs: now },
    { value: Buffer.alloc(0), mark: 'newline', timestampMs: now },
    { value: Buffer.from('carriage return\r'), mark: 'newline', timestampMs: now + 1 },
    { value: Buffer.from([0, 0xff, 0xfe, 0xc3, 0x28]), mark: 'newline', timestampMs: now - 3_600_000 },
    { value: Buffer.alloc(200_000, 'long '), mark: 'part', timestampMs: now + 2 },
    { value: Buffer.from('the rest of it'), mark: 'newline', timestampMs: now + 86_400_000 },
  ]
  const many = Array.from({ length: 2000 }, (_, index): Line => ({
    value: Buffer.from(`192.0.2.${index % 251} "GET /item/${(index * 7919) % 1000}" ${index}`),
    mark: 'newline',
    timestampMs: now + index,
  }))
  return [...shapes, ...many, { value: Buffer.from('no newline'), mark: 'eof', timestampMs: now + 3000 }]
}

function seal(zstd: Zstd, options: { isSourced: boolean; level: number }): Buffer {
  const header = options.isSourced ? sourceHeader : undefined
  const builder = new RecordsBuilder({ capacity: 1 << 20, key: options.isSourced ? key : Buffer.from('k'), sourceHeaderBytes: header?.length ?? 0 })
  for (const line of lines()) {
    const isAdded = builder.append(line.value, { start: 0, end: line.value.length, mark: line.mark, timestampMs: line.timestampMs })
    if (!isAdded) throw new Error('the batch of the test is too large for its builder')
  }
  const section = builder.finish(header)
  return sealBatch(section, [zstd.compressSync(section.raw, options.level)], options.isSourced ? producerOf(streamId, FIRST_ORDINAL) : NO_PRODUCER)
}

/** What Kafka must find, from what was put in, not from what our decoder says. */
function expectedRecords(baseOffset: number): readonly unknown[] {
  return lines().map((line, index) => ({
    offset: String(baseOffset + index),
    timestamp: String(line.timestampMs),
    sequence: (FIRST_ORDINAL + index) % 2 ** 31,
    key: key.toString('hex'),
    value: line.value.toString('hex'),
    headers: [
      ...(index === 0 ? [[Buffer.from('tr').toString('hex'), sourceHeader.toString('hex')]] : []),
      ...(line.mark === 'newline' ? [] : [[Buffer.from(`tr.${line.mark}`).toString('hex'), '']]),
    ],
  }))
}

describe.skipIf(skipReason !== undefined)('Kafka reads what is sealed here', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tailrace-kafka-client-'))
  let classPath = ''

  beforeAll(async () => {
    classPath = await kafkaClassPath()
  })
  afterAll(() => {
    rmSync(folder, { recursive: true })
  })

  async function readByKafka(batches: readonly Buffer[]): Promise<DescribedBatch[]> {
    const file = join(folder, 'batches')
    writeFileSync(file, Buffer.concat(batches))
    const { stdout } = await runJava(classPath, program, ['read', file])
    return JSON.parse(stdout) as DescribedBatch[]
  }

  test.each(codecs)('a sealed batch of %s means to Kafka what was put into it', async (codec) => {
    const zstd = await loadZstd({ codec })
    const batch = seal(zstd, { isSourced: true, level: 3 })
    patchBatch(batch, { baseOffset: toOffset(2 ** 33 + 5), leaderEpoch: 4 })

    const [read] = await readByKafka([batch])
    expect(read).toMatchObject({
      baseOffset: String(2 ** 33 + 5),
      leaderEpoch: 4,
      codec: 4,
      isLogAppendTime: false,
      isTransactional: false,
      isControl: false,
      recordCount: lines().length,
      producerId: String(2n ** 62n + (0xf7c3bc1d808e0473n >> 3n)),
      producerEpoch: 0,
      baseSequence: FIRST_ORDINAL,
      maxTimestamp: String(Math.max(...lines().map((line) => line.timestampMs))),
    })
    expect(read?.records).toEqual(expectedRecords(2 ** 33 + 5))
    expect(read).toEqual(describeBatch(batch, zstd))
  })

  test.each(codecs)('batches of %s at every level stand back to back in one segment', async (codec) => {
    const zstd = await loadZstd({ codec })
    const batches = [1, 3, 9].flatMap((level) => [true, false].map((isSourced) => seal(zstd, { isSourced, level })))
    let baseOffset = 0
    for (const batch of batches) {
      patchBatch(batch, { baseOffset: toOffset(baseOffset), leaderEpoch: 0 })
      baseOffset += lines().length
    }
    expect(await readByKafka(batches)).toEqual(batches.map((batch) => describeBatch(batch, zstd)))
  })

  test('a flipped bit is refused by Kafka: the judge is awake', async () => {
    const batch = seal(await loadZstd(), { isSourced: true, level: 3 })
    batch.writeUInt8(batch.readUInt8(batch.length - 5) ^ 1, batch.length - 5)
    await expect(readByKafka([batch])).rejects.toThrow(/CorruptRecordException: Record is corrupt/)
  })
})
