import { gunzipSync } from 'node:zlib'
import { beforeAll, describe, expect, test } from 'vitest'
import { TableEncoder, type EncodedFile, type EncodeJob, type EncodeOutput } from '../../../../collector/export/tables/table-encoder.ts'
import { lineLevel } from '../../../../collector/export/tables/line-level.ts'
import { HOUR_MS } from '../../../../collector/export/tables/table-layout.ts'
import { patchBatch } from '../../../../shared/record-batch.ts'
import { toOffset } from '../../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../../shared/zstd.ts'
import { plainBatch, sealedBatch } from '../../../sealed-batch.ts'

let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

const everything: EncodeJob = { topic: 'app', partition: 2, format: 'jsonl', scannedOffset: 0, hourLimit: 0, dueHourLimit: null }

function at(batch: Buffer, baseOffset: number): Buffer {
  patchBatch(batch, { baseOffset: toOffset(baseOffset), leaderEpoch: 0 })
  return batch
}

/** A batch of two lines in each of these hours, at offsets that follow each other. */
function batchesIn(hours: readonly number[]): Buffer[] {
  return hours.map((hour, index) => at(plainBatch({ zstd, lines: [`a ${index}`, `b ${index}`], timestampMs: hour * HOUR_MS + index }), index * 2))
}

interface Made {
  readonly files: readonly EncodedFile[]
  readonly contents: ReadonlyMap<number, Buffer>
  readonly heldBack: number
  readonly unreadable: number
}

/** `group`: batches given at a time. */
function encode(job: EncodeJob, batches: readonly Buffer[], group = 1, lastAppendMs: number | null = null): Made {
  const encoder = new TableEncoder(job, zstd)
  const outputs: EncodeOutput[] = []
  for (let from = 0; from < batches.length; from += group) outputs.push(encoder.add({ batches: Buffer.concat(batches.slice(from, from + group)), lastAppendMs }))
  outputs.push(encoder.finish())
  const contents = new Map<number, Buffer>()
  for (const { pieces } of outputs) for (const { index, bytes } of pieces) contents.set(index, Buffer.concat([contents.get(index) ?? Buffer.alloc(0), bytes]))
  const sum = (pick: (output: EncodeOutput) => number): number => outputs.reduce((total, output) => total + pick(output), 0)
  return { files: outputs.flatMap(({ finished }) => finished), contents, heldBack: sum(({ heldBack }) => heldBack), unreadable: sum(({ unreadable }) => unreadable) }
}

function rowsOf(made: Made, index = 0): Record<string, unknown>[] {
  return gunzipSync(made.contents.get(index) ?? Buffer.alloc(0)).toString('utf8').split('\n').slice(0, -1).map((line) => JSON.parse(line) as Record<string, unknown>)
}

describe('a table encoder', () => {
  test.each(['jsonl', 'parquet'] as const)('makes the same %s files however the batches are cut into pieces', (format) => {
    const batches = batchesIn([5, 5, 6, 5, 7, 6])
    const job = { ...everything, format }
    const whole = encode(job, batches, 6)
    const shown = whole.files.map(({ hour, firstOffset, nextOffset, rows }) => [hour, firstOffset, nextOffset, rows]).toSorted((x, y) => (x[0] ?? 0) - (y[0] ?? 0))
    expect(shown).toEqual([[5, 0, 8, 6], [6, 4, 12, 4], [7, 8, 10, 2]])
    for (const group of [1, 2, 4]) expect(encode(job, batches, group)).toEqual(whole)
  })

  test('holds no more than 32 hours open; an hour that comes back gets one more file', () => {
    const hours = [...Array.from({ length: 40 }, (_, hour) => hour), 0]
    const made = encode(everything, batchesIn(hours))
    expect(made.files).toHaveLength(41)
    expect(made.files.filter(({ hour }) => hour === 0).map(({ firstOffset, nextOffset }) => [firstOffset, nextOffset])).toEqual([[0, 2], [80, 82]])
    expect(made.files.reduce((sum, { rows }) => sum + rows, 0)).toBe(82)
  })

  test('leaves out what was published, holds back what is not due, and takes the future at once', () => {
    const batches = batchesIn([5, 6, 7, 900, 5])
    const made = encode({ ...everything, scannedOffset: 8, hourLimit: 6, dueHourLimit: 7 }, batches, 1, 8 * HOUR_MS)
    // Offsets 0–1 and the future at 6–7 went out in an earlier step; 4–5 wait; 8–9 are late.
    expect(made.files.map(({ hour, firstOffset, rows }) => [hour, firstOffset, rows])).toEqual([[6, 2, 2], [5, 8, 2]])
    expect(made.heldBack).toBe(2)
  })

  test('tells source, labels, level and mark of a row, and the bytes that are no UTF-8', () => {
    const { batch } = sealedBatch({ zstd, source: Buffer.concat([Buffer.from('12:00 ERROR full\n'), Buffer.from([0x66, 0xff, 0x0a]), Buffer.from('rest')]), labels: Buffer.from('{"env":"prod"}'), timestampMs: 1 })
    const rows = rowsOf(encode(everything, [at(batch, 7)]))
    const common = { ts: '1970-01-01T00:00:00.001Z', partition: 2, host: 'web-1', path: '/var/log/app.log', labels: { env: 'prod' } }
    expect(rows).toEqual([
      { ...common, stream: expect.stringMatching(/^[0-9a-f]{32}$/), offset: 7, level: 'error', message: '12:00 ERROR full' },
      { ...common, stream: expect.stringMatching(/^[0-9a-f]{32}$/), offset: 8, message: 'f\uFFFD', messageB64: 'Zv8=' },
      { ...common, stream: expect.stringMatching(/^[0-9a-f]{32}$/), offset: 9, message: 'rest', mark: 'eof' },
    ])
  })

  test('counts a batch that does not decompress, once, and goes on behind it', () => {
    const [first, bad, last] = batchesIn([5, 5, 5])
    if (first === undefined || bad === undefined || last === undefined) throw new Error('three batches')
    bad.fill(0xee, 61 + 8)
    const made = encode(everything, [first, bad, last])
    expect(rowsOf(made).map(({ offset }) => offset)).toEqual([0, 1, 4, 5])
    expect(made.unreadable).toBe(2)
    expect(encode({ ...everything, scannedOffset: 4 }, [first, bad, last]).unreadable).toBe(0)
  })
})

test.each([
  ['2026-01-01 12:00:00 WARN disk is slow', 'warn'],
  ['{"ts":1,"level":"Error","msg":"INFO is a word"}', 'error'],
  ['ts=1 level=debug msg=x', 'debug'],
  ['[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok', 'info'],
  ['<EMERG> out of memory', 'fatal'],
  ['INFORMATION desk', undefined],
  ['nothing of the kind', undefined],
  [`${'x'.repeat(300)} ERROR`, undefined],
])('the level of %j is %s', (line, level) => {
  const raw = Buffer.from(`before ERROR ${line}`)
  expect(lineLevel(raw, 13, raw.length)).toBe(level)
})
