/** Segments written by the embedded log, judged by Kafka's DumpLogSegments: every batch valid, every index entry right. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TopicLog } from '../../collector/storage/topic-log.ts'
import { openTopicStore } from '../../collector/storage/topic-store.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { wireLimits } from '../../shared/wire.ts'
import { loadZstd } from '../../shared/zstd.ts'
import { plainBatch, sealedBatch, type SealedBatch } from '../sealed-batch.ts'
import { kafkaClassPath, reasonToSkip, runJava } from './java.ts'

const skipReason = reasonToSkip('test/real/dump-log.test.ts')
// Its place up to Kafka 4.1; from 4.2 on it is org.apache.kafka.tools.DumpLogSegments.
const DUMP = 'kafka.tools.DumpLogSegments'
const STREAMS = 6
const ROUNDS = 40

async function open(dataDir: string): Promise<TopicLog> {
  return openTopicStore(createNodeSystem({ logLevel: 'error' }), {
    dataDir,
    zstd: await loadZstd(),
    batchContentBytesMax: wireLimits.batchContentBytesMax,
    defaults: { partitions: 2, segmentBytes: 128 * 1024, segmentAgeMs: 3_600_000, retentionBytes: undefined, retentionAgeMs: undefined },
  })
}

/** Lines that compress badly enough to make index entries and segments. */
function lines(seed: number, count: number): readonly string[] {
  return Array.from({ length: count }, (_, index) => {
    const number = Math.imul(seed * 1000 + index + 1, 0x9e3779b1) >>> 0
    return `${number.toString(16)} GET /item/${number % 100_003} ${Math.imul(number, 0x85ebca6b) >>> 0}`
  })
}

interface Written {
  readonly batches: number
  readonly records: number
}

/** Streams whose batches are of every size, some batches without a source, a restart in the middle, rolls by size. */
async function fill(dataDir: string): Promise<Written> {
  const zstd = await loadZstd()
  const last = new Map<number, SealedBatch>()
  let batches = 0
  let records = 0
  let log = await open(dataDir)
  for (let round = 0; round < ROUNDS; round += 1) {
    if (round === ROUNDS / 2) {
      await log.close()
      log = await open(dataDir)
    }
    for (let stream = 0; stream < STREAMS; stream += 1) {
      const previous = last.get(stream)
      const count = 1 + ((round * 37 + stream * 101) % 400)
      // Clocks that step back must not confuse the time index.
      const timestampMs = Date.UTC(2026, 10, 1) + round * 1000 - (stream === 3 ? round * 5000 : 0)
      const batch = sealedBatch({
        zstd, lines: lines(round * STREAMS + stream, count), timestampMs, path: `/var/log/app-${stream}.log`, inode: BigInt(100 + stream),
        ...(previous === undefined ? {} : { previous }),
      })
      const result = await log.append(batch)
      expect(result.kind).toBe('ok')
      last.set(stream, batch)
      batches += 1
      records += count
    }
    await log.appendPlain({ topic: 'app', partition: round % 2, batch: plainBatch({ zstd, lines: lines(round, 3) }) })
    batches += 1
    records += 3
  }
  await log.close()
  return { batches, records }
}

function matches(text: string, pattern: RegExp): number {
  return [...text.matchAll(pattern)].length
}

describe.skipIf(skipReason !== undefined)("Kafka's DumpLogSegments", () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'tailrace-dump-log-'))
  let classPath = ''
  let written: Written = { batches: 0, records: 0 }
  let files: readonly string[] = []

  beforeAll(async () => {
    classPath = await kafkaClassPath()
    written = await fill(dataDir)
    const topics = join(dataDir, 'topics')
    files = readdirSync(topics, { recursive: true, encoding: 'utf8' }).map((name) => join(topics, name)).filter((name) => /\d{20}\.(log|index|timeindex)$/.test(name))
  })
  afterAll(() => {
    rmSync(dataDir, { recursive: true })
  })

  const ending = (suffix: string): readonly string[] => files.filter((file) => file.endsWith(suffix))
  /** Both streams: mismatches go to stderr. */
  const dump = async (of: readonly string[], ...flags: readonly string[]): Promise<string> => {
    const { stdout, stderr } = await runJava(classPath, DUMP, [...flags, '--files', of.join(',')])
    return stdout + stderr
  }

  test('finds every batch and every record valid, in order and without a gap', async () => {
    const logs = ending('.log')
    expect(logs.length, 'the test must make several segments').toBeGreaterThan(4)
    const text = await dump(logs, '--deep-iteration')
    expect(matches(text, /isvalid: true/g)).toBe(written.batches)
    expect(text).not.toContain('isvalid: false')
    expect(text).not.toContain('Non-consecutive')
    expect(matches(text, /^\| offset: \d+/gm)).toBe(written.records)
    expect(matches(text, /compresscodec: zstd/g)).toBe(written.batches)
  })

  test('finds every entry of every index in its log', async () => {
    const indexes = [...ending('.index'), ...ending('.timeindex')]
    const sealed = ending('.log').filter((file) => !isActive(file))
    for (const file of sealed) {
      expect(existsSync(file.replace(/log$/, 'index')), file).toBe(true)
      expect(existsSync(file.replace(/log$/, 'timeindex')), file).toBe(true)
    }
    const text = await dump(indexes, '--deep-iteration')
    expect(text).not.toMatch(/mismatch|out of order|not found|should be/i)
    expect(matches(text, /^offset: \d+ position: \d+/gm), 'offset index entries').toBeGreaterThan(sealed.length)
    expect(matches(text, /^timestamp: \d+ offset: \d+/gm), 'time index entries').toBeGreaterThan(sealed.length)
  })

  test('passes the check of indexes that a broker makes when it starts', async () => {
    const indexes = [...ending('.index'), ...ending('.timeindex')]
    const text = await dump(indexes, '--index-sanity-check')
    expect(matches(text, /passed sanity check/g)).toBe(indexes.length)
  })

  test('complains about a flipped byte and about a shifted index entry: the judge is awake', async () => {
    const folder = mkdtempSync(join(dataDir, 'damaged-'))
    const [log] = ending('.log')
    if (log === undefined) throw new Error('no segment was written')
    const target = join(folder, basename(log))
    for (const suffix of ['log', 'index', 'timeindex']) copyFileSync(log.replace(/log$/, suffix), target.replace(/log$/, suffix))
    const bytes = readFileSync(target)
    bytes.writeUInt8(bytes.readUInt8(200) ^ 1, 200)
    writeFileSync(target, bytes)
    expect(await dump([target], '--deep-iteration').catch(String)).toMatch(/isvalid: false|CorruptRecord/)

    copyFileSync(log, target)
    const index = readFileSync(target.replace(/log$/, 'index'))
    index.writeInt32BE(index.readInt32BE(0) + 1, 0)
    writeFileSync(target.replace(/log$/, 'index'), index)
    expect(await dump([target.replace(/log$/, 'index')], '--deep-iteration')).toMatch(/mismatch/i)

    const timeIndex = readFileSync(target.replace(/log$/, 'timeindex'))
    timeIndex.writeInt32BE(timeIndex.readInt32BE(4) - 1, 4)
    writeFileSync(target.replace(/log$/, 'timeindex'), timeIndex)
    expect(await dump([target.replace(/log$/, 'timeindex')], '--deep-iteration')).toMatch(/mismatch|out of order|not found/i)
  })

  function isActive(file: string): boolean {
    const own = ending('.log').filter((other) => other.slice(0, -24) === file.slice(0, -24))
    return own.toSorted().at(-1) === file
  }
})
