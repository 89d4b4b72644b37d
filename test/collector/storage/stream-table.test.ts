import { beforeAll, describe, expect, test } from 'vitest'
import { foldBatch } from '../../../collector/storage/stream-fold.ts'
import { decodeSnapshot, loadSnapshots, writeSnapshot } from '../../../collector/storage/stream-snapshot.ts'
import { MemoryStreamTable } from '../../../collector/storage/stream-table.ts'
import { AppError } from '../../../shared/errors.ts'
import { readBatchHeader } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import { overridden } from '../../overridden.ts'
import { sealedBatch, type SealedBatch, type SealedBatchOptions } from '../../sealed-batch.ts'
import { SimFileSystem } from '../../sim-fs.ts'

let zstd: Zstd
const make = (options: Omit<SealedBatchOptions, 'zstd'> = {}): SealedBatch => sealedBatch({ zstd, ...options })

beforeAll(async () => {
  zstd = await loadZstd()
})

function commit(table: MemoryStreamTable, input: SealedBatch): void {
  const { source, topic } = input
  const header = readBatchHeader(input.batch)
  const entry = table.entry(source.streamId) ?? table.begin(source, { topic, partition: 0 })
  table.advance(entry, { source, recordCount: header.recordCount, done: Promise.resolve(toOffset(0)) })
  table.commit({ topic, partition: 0, header, source, appendMs: 5 })
}

describe('the stream table', () => {
  test('lists an agent\'s streams page by page, in order of id', () => {
    const table = new MemoryStreamTable()
    for (let inode = 1n; inode <= 25n; inode += 1n) commit(table, make({ inode }))
    commit(table, make({ agentId: 'other' }))
    const seen: string[] = []
    let after: Buffer | undefined
    for (let pages = 0; pages < 10; pages += 1) {
      const page = table.ofAgent('agent-1', { limit: 10, ...(after === undefined ? {} : { after }) })
      seen.push(...page.map((state) => state.source.streamId.toString('hex')))
      after = page.at(-1)?.source.streamId
      if (page.length < 10) break
    }
    expect(seen).toHaveLength(25)
    expect(seen).toEqual([...seen].sort())
    expect([...table.list()]).toHaveLength(26)
    expect(table.size).toBe(26)
  })

  test('finds streams by inode, and by a head that the file begins with, in one topic of one agent', () => {
    const table = new MemoryStreamTable()
    const mine = make({ inode: 1n, lines: ['head of mine'] })
    const copy = make({ inode: 2n, lines: ['head of mine', 'and more'] })
    const foreign = make({ inode: 3n, lines: ['something else'] })
    for (const input of [mine, copy, foreign, make({ inode: 1n, agentId: 'other' }), make({ inode: 1n, topic: 'web' })]) commit(table, input)
    const found = (inode: bigint, head: string): bigint[] =>
      table.find('agent-1', { topic: 'app', inode, birthtimeNs: 7n, head: Buffer.from(head) }).map((state) => state.source.inode).sort((a, b) => Number(a - b))
    expect(found(3n, '')).toEqual([3n])
    expect(found(9n, 'head of mine\nand something')).toEqual([1n])
    expect(found(9n, 'head of mine\nand more\nand more')).toEqual([1n, 2n])
    expect(found(9n, 'head of')).toEqual([])
    expect(found(3n, 'head of mine\n')).toEqual([1n, 3n])
  })

  test('follows a head that grows', () => {
    const table = new MemoryStreamTable()
    const first = make({ lines: ['a'] })
    commit(table, first)
    commit(table, make({ previous: first, lines: ['b'] }))
    const find = (head: string): number => table.find('agent-1', { topic: 'app', inode: 0n, birthtimeNs: 0n, head: Buffer.from(head) }).length
    expect([find('a\nb\nc'), find('a\nx')]).toEqual([1, 0])
  })

  test.each([[0, 1], [1, 0]])('a generation marks the one that it supersedes, whichever is folded first (%i, %i)', (first, second) => {
    const table = new MemoryStreamTable()
    const generations = [make({ generation: 0 }), make({ generation: 1, supersedes: 0, lines: ['new'] })]
    for (const index of [first, second]) commit(table, generations[index] ?? make())
    const marks = generations.map((input) => table.get(input.source.streamId)?.isSuperseded)
    expect(marks).toEqual([true, false])
    expect(table.entry(generations[0]?.source.streamId ?? Buffer.alloc(16))?.appended.position).toBe(generations[0]?.source.end)
  })

  test('a restored generation still marks the one that its first batch superseded, whatever its last batch says', () => {
    const table = new MemoryStreamTable()
    const older = make({ generation: 0 })
    const first = make({ generation: 1, supersedes: 0, lines: ['new'] })
    const second = make({ previous: first, lines: ['newer'] })
    commit(table, older)
    commit(table, first)
    commit(table, second)
    const restored = new MemoryStreamTable()
    for (const state of [...table.list()].map((each) => ({ ...each, isSuperseded: false }))) restored.restore(state)
    expect(restored.get(older.source.streamId)?.isSuperseded).toBe(true)
    expect(restored.get(first.source.streamId)?.source.supersedes).toBe(0)
  })

  test('a rollback puts streams back where they are synced, and forgets those that never were', () => {
    const table = new MemoryStreamTable()
    const first = make()
    commit(table, first)
    const second = make({ previous: first })
    const entry = table.entry(first.source.streamId)
    if (entry === undefined) throw new Error('not there')
    table.advance(entry, { source: second.source, recordCount: 1, done: Promise.resolve(toOffset(0)) })
    const fresh = make({ inode: 5n })
    table.advance(table.begin(fresh.source, { topic: 'app', partition: 0 }), { source: fresh.source, recordCount: 1, done: Promise.resolve(toOffset(0)) })
    table.rollBack([second.source, fresh.source])
    expect(entry).toMatchObject({ appended: { position: first.source.end, recordCount: 1 }, inFlight: undefined })
    expect(table.entry(fresh.source.streamId)).toBeUndefined()
  })

  test('a hole in a stream is a bug, not a position', () => {
    const table = new MemoryStreamTable()
    const first = make()
    commit(table, first)
    const third = make({ previous: make({ previous: first }) })
    expect(() => commit(table, third)).toThrow(/BUG/)
  })
})

describe('a snapshot', () => {
  const fold = (input: SealedBatch): ReturnType<typeof foldBatch> =>
    foldBatch(undefined, { topic: input.topic, partition: 3, header: readBatchHeader(input.batch), source: input.source, appendMs: 1_700_000_000_123 })

  test('gives back every stream and offset', async () => {
    const fs = new SimFileSystem()
    const streams = Array.from({ length: 1200 }, (_none, index) => ({ ...fold(make({ inode: BigInt(index), path: `/p/ü${index}` })), isOpen: index % 2 === 0, isSuperseded: index % 3 === 0 }))
    const partitions = [{ topic: 'app', partition: 3, nextOffset: toOffset(2 ** 40) }]
    await writeSnapshot(fs, '', { number: 7, partitions, streams })
    const { snapshots, bad, lastNumber } = await loadSnapshots(fs, '')
    expect([bad, lastNumber]).toEqual([[], 7])
    expect(snapshots[0]).toEqual({ number: 7, partitions, streams })
  })

  test('that was loaded outlives a power cut, also when its writer was killed before its name was synced', async () => {
    const fs = new SimFileSystem()
    const partitions = [{ topic: 'app', partition: 0, nextOffset: toOffset(7) }]
    await writeSnapshot(overridden(fs, { syncDirectory: () => Promise.resolve() }), '', { number: 1, partitions, streams: [] })
    fs.kill()
    expect((await loadSnapshots(fs, '')).snapshots).toHaveLength(1)
    fs.crash()
    expect((await loadSnapshots(fs, '')).snapshots).toEqual([{ number: 1, partitions, streams: [] }])
  })

  test('with any byte changed, or cut short, is refused', async () => {
    const fs = new SimFileSystem()
    await writeSnapshot(fs, '', { number: 1, partitions: [{ topic: 'app', partition: 0, nextOffset: toOffset(1) }], streams: [fold(make())] })
    const bytes = fs.getFile('/1.snapshot') ?? Buffer.alloc(0)
    for (let at = 0; at < bytes.length; at += 1) {
      const damaged = Buffer.from(bytes)
      damaged.writeUInt8(damaged.readUInt8(at) ^ 1, at)
      expect(() => decodeSnapshot(damaged)).toThrow(AppError)
      expect(() => decodeSnapshot(bytes.subarray(0, at))).toThrow(AppError)
    }
  })
})
