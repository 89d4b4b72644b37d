import { beforeAll, expect, test } from 'vitest'
import { SegmentIndex } from '../../../collector/storage/segment-index.ts'
import { patchBatch, readBatchHeader } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { sealedBatch, type SealedBatch } from '../../sealed-batch.ts'
import { simulate, type Simulation } from '../../sim-system.ts'
import { cli } from './run-cli.ts'

let zstd: Zstd
beforeAll(async () => {
  zstd = await loadZstd()
})

const BASE = 100
const LOG = '/00000000000000000100.log'

/** A segment of ten batches with its indexes, as the collector seals one. */
function segment(): { simulation: Simulation; log: Buffer; index: Buffer } {
  const simulation = simulate()
  const indexes = new SegmentIndex(toOffset(BASE))
  const pieces: Buffer[] = []
  let previous: SealedBatch | undefined
  let offset = BASE
  let position = 0
  for (let count = 0; count < 10; count += 1) {
    const noise = Array.from({ length: 3000 }, (_, at) => String.fromCharCode(33 + ((at * 7919 + count * 104_729 + ((at * at) % 8191)) % 90))).join('')
    previous = sealedBatch({ zstd, lines: [noise, `line ${count}`], timestampMs: 1000 + count, ...(previous === undefined ? {} : { previous }) })
    const batch = Buffer.from(previous.batch)
    patchBatch(batch, { baseOffset: toOffset(offset), leaderEpoch: 3 })
    indexes.add(readBatchHeader(batch), position)
    pieces.push(batch)
    offset += 2
    position += batch.length
  }
  const log = Buffer.concat(pieces)
  const index = Buffer.from(indexes.offsets.toBytes())
  simulation.fs.putFile(LOG, log)
  simulation.fs.putFile(LOG.replace('.log', '.index'), index)
  simulation.fs.putFile(LOG.replace('.log', '.timeindex'), indexes.sealedTimes())
  return { simulation, log, index }
}

test('a sound segment is all valid, with its batches and streams', async () => {
  const { simulation, index } = segment()
  expect(index.length).toBeGreaterThan(8)
  const run = await cli(['inspect', LOG, '--utc'], { simulation })
  expect(run).toMatchObject({ code: 0, stderr: '' })
  const lines = run.stdout.trimEnd().split('\n')
  expect(lines).toHaveLength(11)
  expect(lines[0]).toMatch(/^position 0 {2}size \d+ {2}offsets 100-101 {2}records 2 {2}epoch 3 .*1970-01-01T00:00:01.000Z.*web-1:\/var\/log\/app.log {2}valid$/)
  expect(lines[10]).toContain('10 batches, 20 records')
  expect(lines[10]).toContain('all valid')
})

test('--records prints every record; --json is one array of batches', async () => {
  const { simulation } = segment()
  expect((await cli(['inspect', LOG, '--records', '--utc'], { simulation })).stdout).toContain('  119 1970-01-01T00:00:01.009Z line 9\n')
  const run = await cli(['inspect', LOG, '--json', '--records'], { simulation })
  const rows = JSON.parse(run.stdout) as Array<{ valid: boolean; baseOffset: number; records: Array<{ line: string }>; source: { inode: string } }>
  expect(rows).toHaveLength(10)
  expect(rows[9]).toMatchObject({ valid: true, baseOffset: 118, source: { inode: '42', start: expect.any(Number) } })
  expect(rows[9]?.records[1]?.line).toBe('line 9')
})

test('a flipped bit is found, what follows is read on, exit code 3', async () => {
  const { simulation, log } = segment()
  const damaged = Buffer.from(log)
  damaged.writeUInt8(damaged.readUInt8(log.length >> 1) ^ 1, log.length >> 1)
  simulation.fs.putFile(LOG, damaged)
  const run = await cli(['inspect', LOG], { simulation })
  expect(run.code).toBe(3)
  expect(run.stdout).toContain('DAMAGED: CRC-32C does not match')
  expect(run.stdout).toContain('offsets 118-119')
  expect(run.stdout).toContain('1 DAMAGED')
})

test('a torn tail is damage', async () => {
  const { simulation, log } = segment()
  simulation.fs.putFile(LOG, log.subarray(0, log.length - 5))
  expect((await cli(['inspect', LOG], { simulation })).code).toBe(3)
})

test('an index that disagrees is exit code 1', async () => {
  const { simulation, index } = segment()
  const wrong = Buffer.from(index)
  wrong.writeInt32BE(wrong.readInt32BE(4) + 1, 4)
  simulation.fs.putFile(LOG.replace('.log', '.index'), wrong)
  const run = await cli(['inspect', LOG], { simulation })
  expect(run.code).toBe(1)
  expect(run.stdout).toContain('points into a batch')
  expect(run.stdout).toContain('INDEX DISAGREES')
})

test('a time index that disagrees is exit code 1', async () => {
  const { simulation } = segment()
  const path = LOG.replace('.log', '.timeindex')
  const wrong = Buffer.from(simulation.fs.getFile(path) ?? Buffer.alloc(0))
  wrong.writeBigInt64BE(999n, wrong.length - 12)
  simulation.fs.putFile(path, wrong)
  expect((await cli(['inspect', LOG], { simulation })).code).toBe(1)
})

test('without indexes, and under the name of an exported segment, the log alone is judged', async () => {
  const { simulation, log } = segment()
  simulation.fs.putFile('/00000000000000000100-00000000000000000120-1.log', log)
  expect((await cli(['inspect', '/00000000000000000100-00000000000000000120-1.log'], { simulation })).code).toBe(0)
})

test('a file that is not there is a usage error', async () => {
  expect((await cli(['inspect', '/nope.log'])).code).toBe(2)
})
