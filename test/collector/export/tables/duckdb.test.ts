/**
 * An independent reader: DuckDB over a real folder, by the very view that `tailrace exports --ddl duckdb` prints. Sources
 * are real logs from loghub and random bytes; what it reads must be their lines, byte for byte, and as many.
 */
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api'
import { randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { tableDdl } from '../../../../collector/cli/exports-ddl.ts'
import { createExporter } from '../../../../collector/export/exporter.ts'
import { createFileStore } from '../../../../collector/export/file-store.ts'
import { createInProcessEncoder } from '../../../../collector/export/tables/encoder-host.ts'
import { TableEncoder } from '../../../../collector/export/tables/table-encoder.ts'
import { nodeFileSystem } from '../../../../shared/node/file-system.ts'
import { NO_PRODUCER, sealBatch } from '../../../../shared/record-batch.ts'
import { RecordsBuilder } from '../../../../shared/records-builder.ts'
import { loadZstd, type Zstd } from '../../../../shared/zstd.ts'
import { simulate } from '../../../sim-system.ts'
import { SealedSegments } from '../sealed-segments.ts'
import { HOUR, MINUTE, START_MS } from './table-rig.ts'

const loghub = fileURLToPath(new URL('../../../../../shared/data/loghub', import.meta.url))
const LINES_PER_FILE = 400
let folder = ''

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-tables-'))
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

/** Lines as bytes: of each loghub file that is there, of random bytes, and the awkward ones. */
async function sourceLines(): Promise<Buffer[]> {
  const lines: Buffer[] = []
  const names = await readdir(loghub).catch(() => [])
  for (const name of names.filter((each) => each.endsWith('.log'))) {
    const text = (await readFile(join(loghub, name))).toString('latin1')
    lines.push(...text.split('\n', LINES_PER_FILE).map((line) => Buffer.from(line, 'latin1')))
  }
  for (let count = 0; count < 300; count += 1) lines.push(Buffer.from(randomBytes(1 + (count % 90)).filter((byte) => byte !== 0x0a)))
  lines.push(Buffer.alloc(0), Buffer.from('\0'), Buffer.from('"\\\u2028\u{1F600}\r'), Buffer.alloc(300_000, 'x'))
  return lines
}

async function read(db: DuckDBConnection, sql: string): Promise<readonly (readonly unknown[])[]> {
  return (await db.runAndReadAll(sql)).getRows()
}

test.each(['jsonl', 'parquet'] as const)('DuckDB reads from %s tables exactly the lines of the sources, by the printed view', { timeout: 60_000 }, async (format) => {
  const lines = await sourceLines()
  const zstd = await loadZstd()
  const fs = nodeFileSystem()
  const root = join(folder, format)
  const sim = simulate({ nowMs: START_MS + 30 * HOUR })
  const system = { ...sim.system, fs }
  const segments = new SealedSegments({ fs, zstd, folder: join(folder, `${format}-data`) })
  const PER_SEGMENT = 500
  for (let from = 0; from < lines.length; from += PER_SEGMENT) {
    const first = START_MS + (from / PER_SEGMENT) * 17 * MINUTE
    await segments.add('app.log', 0, { lines: lines.slice(from, from + PER_SEGMENT), timestampsMs: [first], appendMs: { first, last: first + MINUTE } })
  }
  const exporter = createExporter(system, {
    log: segments.log, store: createFileStore(fs, root), zstd, dataDir: join(folder, `${format}-data`), tables: { format, latenessMs: 0, encoder: createInProcessEncoder(zstd) },
  })
  await exporter.start()
  await exporter.exportNow()
  await exporter.close()

  const db = await (await DuckDBInstance.create()).connect()
  await db.run(tableDdl('duckdb', { topic: 'app.log', format, store: `file://${root}` }))
  const [counts] = await read(db, 'SELECT count(*)::INTEGER, count(DISTINCT "offset")::INTEGER, count(DISTINCT hour)::INTEGER FROM "app.log" WHERE dt = DATE \'2026-01-01\'')
  const hours = new Set(Array.from({ length: Math.ceil(lines.length / PER_SEGMENT) }, (_, at) => Math.floor((at * 17) / 60)))
  expect(counts).toEqual([lines.length, lines.length, hours.size])
  const rows = await read(db, 'SELECT coalesce(from_base64("messageB64"), encode(message)), epoch_ms(ts)::DOUBLE, host, path FROM "app.log" ORDER BY "offset"')
  const wrong = rows.filter((row, at) => !Buffer.from((row[0] as { bytes: Uint8Array }).bytes).equals(lines[at] ?? Buffer.alloc(0)))
  expect(wrong).toEqual([])
  expect(rows[0]?.slice(1)).toEqual([START_MS, 'web-1', '/var/log/app.log-0.log'])
  expect(await read(db, 'SELECT count(*)::INTEGER FROM "app.log" WHERE hour = \'00\' AND epoch_ms(ts) >= 1767229200000')).toEqual([[0]])
  db.closeSync()
  if (format === 'jsonl') expect(await gunzippedLines(root)).toBe(lines.length)
})

test('a line as large as a batch can be is read back, also where zstd is the one in WebAssembly', { timeout: 60_000 }, async () => {
  const zstd = await loadZstd({ codec: 'zstd-codec' })
  // Each of its bytes becomes a replacement character of three: no page of it fits into the codec.
  const line = Buffer.alloc(1_900_000, 0xff)
  const batch = plainLine(zstd, line)
  for (const format of ['jsonl', 'parquet'] as const) {
    const encoder = new TableEncoder({ topic: 'big', partition: 0, format, scannedOffset: 0, hourLimit: 0, dueHourLimit: null }, zstd)
    const pieces = [encoder.add({ batches: batch, lastAppendMs: null }), encoder.finish()].flatMap((output) => output.pieces)
    const root = join(folder, `big-${format}`)
    const hour = join(root, 'tables/big/dt=2026-01-01/hour=00')
    await mkdir(hour, { recursive: true })
    await writeFile(join(hour, format === 'jsonl' ? 'big.jsonl.gz' : 'big.parquet'), Buffer.concat(pieces.map(({ bytes }) => bytes)))
    const db = await (await DuckDBInstance.create()).connect()
    await db.run(tableDdl('duckdb', { topic: 'big', format, store: `file://${root}` }))
    expect(await read(db, 'SELECT octet_length(from_base64("messageB64"))::INTEGER, length(message)::INTEGER FROM big')).toEqual([[line.length, line.length]])
    db.closeSync()
  }
})

function plainLine(zstd: Zstd, line: Buffer): Buffer {
  const builder = new RecordsBuilder({ capacity: line.length + 100, key: Buffer.alloc(0), sourceHeaderBytes: 0 })
  builder.append(line, { start: 0, end: line.length, mark: 'newline', timestampMs: START_MS })
  const section = builder.finish(undefined)
  return sealBatch(section, [zstd.compressSync(section.raw, 1)], NO_PRODUCER)
}

async function gunzippedLines(root: string): Promise<number> {
  let count = 0
  for (const path of await readdir(join(root, 'tables'), { recursive: true })) {
    if (path.endsWith('.gz')) count += gunzipSync(await readFile(join(root, 'tables', path))).filter((byte) => byte === 0x0a).length
  }
  return count
}
