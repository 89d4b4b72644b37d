import { describe, expect, test } from 'vitest'
import { NO_TAIL_HASH } from '../../../shared/hashes.ts'
import { readBatchHeader } from '../../../shared/record-batch.ts'
import { toOffset } from '../../../shared/types.ts'
import { plainBatch } from '../../sealed-batch.ts'
import { settle } from '../../sim-system.ts'
import { bodyOf, noise, openRig, readAll } from './store-rig.ts'

describe('a batch is accepted', () => {
  test('only where its stream stands, behind the same bytes', async () => {
    const { store, batch } = await openRig()
    const first = batch({ lines: ['one', 'two'] })
    const second = batch({ previous: first, lines: ['three'] })
    const other = batch({ previous: batch({ lines: ['ONE', 'two'] }), lines: ['three'] })
    const third = batch({ previous: second, lines: ['four'] })

    expect(await store.append(second)).toMatchObject({ kind: 'expected', position: 0, tailHash: NO_TAIL_HASH })
    expect(await store.append(first)).toEqual({ kind: 'ok', partition: 0, baseOffset: 0 })
    const stands = { position: first.source.end, tailHash: first.source.tailHashEnd }
    expect(await store.append(first)).toEqual({ kind: 'have', ...stands })
    expect(await store.append(third)).toEqual({ kind: 'expected', ...stands })
    expect(await store.append(other)).toEqual({ kind: 'diverged', ...stands })
    expect(await store.append(second)).toEqual({ kind: 'ok', partition: 0, baseOffset: 2 })

    const { batches, missing } = await readAll(store)
    expect(batches.map((stored) => [stored.baseOffset, stored.lastOffset])).toEqual([[0, 1], [2, 2]])
    expect(batches.map((stored) => stored.body)).toEqual([first, second].map(({ batch: bytes }) => bodyOf(bytes)))
    expect(missing).toEqual([])
  })

  test('inside its file when the bytes before were left out on purpose, and is known so after a crash', async () => {
    const rig = await openRig()
    const { store, batch, sim } = rig
    const first = batch({ skipped: Buffer.from('old lines\n'), lines: ['new'] })
    const second = batch({ previous: first, lines: ['newer'] })
    expect(await Promise.all([store.append(first), store.append(second)])).toMatchObject([{ kind: 'ok', baseOffset: 0 }, { kind: 'ok', baseOffset: 1 }])
    expect(await store.append(first)).toMatchObject({ kind: 'have', position: second.source.end })
    sim.fs.kill()
    const next = await rig.reopen()
    expect(next.store.streams.get(first.source.streamId)).toMatchObject({ position: second.source.end, recordCount: 2 })
    expect([next.store.alarms(), rig.fatal]).toEqual([[], []])
  })

  test('and refused when its ordinal, its topic or its range can not be right', async () => {
    const { store, batch } = await openRig()
    const first = batch({ lines: ['one'] })
    await store.append(first)
    const second = batch({ previous: first })
    const wrong = [
      { ...second, source: { ...second.source, firstOrdinal: 5 } },
      { ...second, source: { ...second.source, end: second.source.start } },
      { ...second, topic: 'other' },
    ]
    for (const input of wrong) await expect(store.append(input)).rejects.toMatchObject({ code: 'INVALID_RECORD' })
    await expect(store.append({ ...second, batch: second.batch.subarray(0, 100) })).rejects.toMatchObject({ code: 'CORRUPT_MESSAGE' })
    await expect(store.append({ ...second, topic: '../x' })).rejects.toMatchObject({ code: 'INVALID_TOPIC' })
    expect((await readAll(store)).batches).toHaveLength(1)
    expect(await store.append(second)).toMatchObject({ kind: 'ok' })
  })

  test('a plain batch gets offsets too, but not with a source header inside', async () => {
    const { store, batch, zstd } = await openRig()
    await store.createTopic('web', { partitions: 2 })
    expect(await store.appendPlain({ topic: 'web', partition: 1, batch: plainBatch({ zstd, lines: ['a', 'b'] }) })).toEqual({ baseOffset: 0 })
    expect(await store.appendPlain({ topic: 'web', partition: 1, batch: plainBatch({ zstd, lines: ['c'] }) })).toEqual({ baseOffset: 2 })
    await expect(store.appendPlain({ topic: 'web', partition: 0, batch: batch().batch })).rejects.toMatchObject({ code: 'INVALID_RECORD' })
    await expect(store.appendPlain({ topic: 'web', partition: 2, batch: plainBatch({ zstd, lines: ['c'] }) })).rejects.toMatchObject({ code: 'INVALID_PARTITIONS' })
  })
})

describe('group commit', () => {
  test('what gathers behind a running sync is one write and one sync', async () => {
    const { store, batch, sim } = await openRig()
    let last = batch({ lines: ['0'] })
    await store.append(last)
    const release = sim.fs.holdSyncs()
    const answers: string[] = []
    const pending: Promise<unknown>[] = []
    const writes: number[] = []
    sim.fs.inject = (call) => {
      if (call.kind === 'write' && call.path.endsWith('.log')) writes.push(call.bytes)
      return undefined
    }
    for (let count = 1; count <= 5; count += 1) {
      last = batch({ previous: last, lines: [`line ${count}`] })
      pending.push(store.append(last).then((result) => answers.push(result.kind)))
      await settle()
    }
    expect(writes).toHaveLength(1)
    expect(answers).toEqual([])
    release()
    await Promise.all(pending)
    expect(writes).toHaveLength(2)
    expect(answers).toEqual(['ok', 'ok', 'ok', 'ok', 'ok'])
  })

  test('nothing is visible, and no position leaves, before the sync', async () => {
    const { store, batch, sim } = await openRig()
    const first = batch({ lines: ['one'] })
    await store.append(first)
    const release = sim.fs.holdSyncs()
    const second = batch({ previous: first, lines: ['two'] })
    const answers: string[] = []
    const appended = store.append(second).then((result) => answers.push(`append ${result.kind}`))
    await settle()
    const again = store.append(second).then((result) => answers.push(`again ${result.kind} ${'position' in result ? result.position : ''}`))
    await settle()
    expect(answers).toEqual([])
    expect(store.watermarks('app', 0)).toEqual({ logStartOffset: 0, localLogStartOffset: 0, highWatermark: 1, logEndOffset: 2 })
    expect(store.streams.get(first.source.streamId)?.position).toBe(first.source.end)
    expect((await store.read({ topic: 'app', partition: 0, offset: toOffset(1), bytesMax: 1000 })).batches).toHaveLength(0)
    release()
    await Promise.all([appended, again])
    expect(answers).toEqual(['append ok', `again have ${second.source.end}`])
    expect(store.watermarks('app', 0).highWatermark).toBe(2)
  })

  test('batches that arrive in one turn for a topic that is not there yet keep their order', async () => {
    const { store, batch } = await openRig()
    const first = batch()
    const second = batch({ previous: first })
    const third = batch({ previous: second })
    const results = await Promise.all([first, second, third].map((input) => store.append(input)))
    expect(results.map((result) => result.kind)).toEqual(['ok', 'ok', 'ok'])
  })

  test('more than the queue may hold is refused as UNAVAILABLE and changes nothing', async () => {
    const { store, batch, sim } = await openRig({ store: { limits: { partitionQueueBytesMax: 3000 } } })
    const first = batch({ lines: [noise(1000, 1)] })
    await store.append(first)
    const release = sim.fs.holdSyncs()
    const second = batch({ previous: first, lines: [noise(2000, 2)] })
    const third = batch({ previous: second, lines: [noise(2000, 3)] })
    const appended = store.append(second)
    await expect(store.append(third)).rejects.toMatchObject({ code: 'UNAVAILABLE', retryAfterMs: 500 })
    release()
    await appended
    expect(await store.append(third)).toMatchObject({ kind: 'ok', baseOffset: 2 })
  })

  test('waitFor wakes when the offset is visible, and gives up with its signal', async () => {
    const { store, batch } = await openRig()
    const first = batch()
    await store.append(first)
    const gone = new AbortController()
    const never = store.waitFor('app', 0, toOffset(7), gone.signal)
    const soon = store.waitFor('app', 0, toOffset(1), new AbortController().signal)
    await store.append(batch({ previous: first }))
    expect(await soon).toBe(true)
    gone.abort()
    expect(await never).toBe(false)
  })
})

describe('a disk that fails', () => {
  test('short write: nothing of the group counts, and it goes on by itself when there is space', async () => {
    const { store, batch, sim, fatal } = await openRig()
    const first = batch({ lines: ['one'] })
    await store.append(first)
    const size = sim.fs.getFile('/data/topics/app-0/00000000000000000000.log')?.length
    const second = batch({ previous: first, lines: ['two'] })
    const third = batch({ previous: second, lines: ['three'] })
    sim.fs.inject = (call) => (call.kind === 'write' && call.path.endsWith('.log') ? { written: 30 } : undefined)
    const outcomes = await Promise.allSettled([store.append(second), store.append(third), store.append(second)])
    expect(outcomes.map((outcome) => outcome.status === 'rejected' && outcome.reason.code)).toEqual(['DISK_FULL', 'DISK_FULL', 'DISK_FULL'])
    expect(sim.fs.getFile('/data/topics/app-0/00000000000000000000.log')?.length).toBe(size)
    sim.fs.inject = undefined
    expect(await store.append(second)).toEqual({ kind: 'ok', partition: 0, baseOffset: 1 })
    expect(await store.append(third)).toEqual({ kind: 'ok', partition: 0, baseOffset: 2 })
    expect(fatal).toEqual([])
  })

  test('ENOSPC: a stream that could not begin is not known, and later begins', async () => {
    const { store, batch, sim } = await openRig()
    await store.createTopic('app', {})
    sim.fs.inject = (call) => (call.kind === 'write' && call.path.endsWith('.log') ? { errno: 'ENOSPC' } : undefined)
    const first = batch()
    await expect(store.append(first)).rejects.toMatchObject({ code: 'DISK_FULL', retryable: true })
    expect(store.streams.get(first.source.streamId)).toBeUndefined()
    sim.fs.inject = undefined
    expect(await store.append(first)).toMatchObject({ kind: 'ok', baseOffset: 0 })
  })

  test('a failed sync is never tried again: the partition fails and the process is told to end', async () => {
    const rig = await openRig()
    const { store, batch, sim, fatal } = rig
    const first = batch({ lines: ['one'] })
    await store.append(first)
    const second = batch({ previous: first, lines: ['two'] })
    sim.fs.inject = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { errno: 'EIO' } : undefined)
    await expect(store.append(second)).rejects.toMatchObject({ code: 'STORAGE_ERROR' })
    sim.fs.inject = undefined
    await expect(store.append(second)).rejects.toMatchObject({ code: 'STORAGE_ERROR' })
    expect(fatal).toHaveLength(1)
    expect(store.topic('app')?.partitions[0]?.state).toBe('failed')
    expect((await readAll(store)).batches).toHaveLength(1)
    sim.fs.crash()
    const next = await rig.reopen()
    expect(next.store.streams.get(first.source.streamId)?.position).toBe(first.source.end)
    expect(await next.store.append(second)).toMatchObject({ kind: 'ok', baseOffset: 1 })
  })

  test('a sync that fails for lack of space is a failed sync, not a full disk', async () => {
    const { store, batch, sim, fatal } = await openRig()
    await store.createTopic('app', {})
    sim.fs.inject = (call) => (call.kind === 'sync' && call.path.endsWith('.log') ? { errno: 'ENOSPC' } : undefined)
    await expect(store.append(batch())).rejects.toMatchObject({ code: 'STORAGE_ERROR' })
    expect(fatal).toHaveLength(1)
  })
})

describe('topics', () => {
  test('a deleted topic goes on at its old offsets when it is made again, and knows its streams', async () => {
    const rig = await openRig({ store: { defaults: { partitions: 2, segmentBytes: 65536, segmentAgeMs: 1e9, retentionBytes: undefined, retentionAgeMs: undefined } } })
    const { store, batch } = rig
    const first = batch({ lines: ['one', 'two', 'three'] })
    const result = await store.append(first)
    const partition = result.kind === 'ok' ? result.partition : -1
    await store.deleteTopic('app')
    expect(store.topic('app')).toBeUndefined()
    expect([...rig.sim.fs.files().keys()].filter((path) => path.includes('app-'))).toEqual([])
    expect(store.streams.get(first.source.streamId)).toMatchObject({ position: first.source.end, isOpen: false })
    rig.sim.fs.crash()
    const { store: next, sim } = await rig.reopen()
    await expect(next.createTopic('app', { partitions: 1 })).rejects.toMatchObject({ code: 'INVALID_PARTITIONS' })
    const second = batch({ previous: first, lines: ['four'] })
    expect(await next.append(first)).toMatchObject({ kind: 'have', position: first.source.end })
    expect(await next.append(second)).toEqual({ kind: 'ok', partition, baseOffset: 3 })
    expect(next.watermarks('app', partition)).toEqual({ logStartOffset: 3, localLogStartOffset: 3, highWatermark: 4, logEndOffset: 4 })
    sim.fs.crash()
    const { store: third } = await rig.reopen()
    expect(third.streams.get(first.source.streamId)).toMatchObject({ position: second.source.end, recordCount: 4 })
    expect(third.topic('app')?.config.partitions).toBe(2)
    expect(third.alarms()).toEqual([])
  })

  test('raising the partition count leaves old streams where they are; lowering it is refused', async () => {
    const rig = await openRig()
    const { store, batch } = rig
    const streams = Array.from({ length: 8 }, (_none, index) => batch({ inode: BigInt(index + 1), path: `/var/log/${index}.log` }))
    for (const input of streams) expect(await store.append(input)).toMatchObject({ partition: 0 })
    await store.alterTopic('app', { partitions: 4, retentionAgeMs: 1000 })
    for (const input of streams) expect(await store.append(batch({ previous: input }))).toMatchObject({ kind: 'ok', partition: 0 })
    const fresh = await Promise.all(
      Array.from({ length: 12 }, (_none, index) => store.append(batch({ inode: BigInt(index + 100), path: `/srv/${index}.log` }))),
    )
    expect(new Set(fresh.map((result) => (result.kind === 'ok' ? result.partition : -1))).size).toBeGreaterThan(1)
    await expect(store.alterTopic('app', { partitions: 3 })).rejects.toMatchObject({ code: 'INVALID_PARTITIONS' })
    await store.close()
    const next = await rig.reopen()
    expect(next.store.topic('app')?.config).toMatchObject({ partitions: 4, retentionAgeMs: 1000 })
    expect(next.store.streams.size).toBe(20)
  })

  test('what a topic does not say itself follows the defaults, also when they change later', async () => {
    const rig = await openRig()
    const defaults = { partitions: 1, segmentBytes: 4096, segmentAgeMs: 1000, retentionBytes: 9_000, retentionAgeMs: undefined }
    await rig.store.createTopic('app', { segmentBytes: 8192, retentionBytes: undefined })
    await rig.store.alterTopic('app', { retentionAgeMs: 5000 })
    await rig.store.close()
    const { store } = await rig.reopen({ defaults })
    const { partitions } = rig.store.topic('app')?.config ?? {}
    expect(store.topic('app')?.config).toEqual({ partitions, segmentBytes: 8192, segmentAgeMs: 1000, retentionBytes: undefined, retentionAgeMs: 5000 })
  })

  test('settings that can not be are refused with a code', async () => {
    const { store } = await openRig()
    await expect(store.createTopic('.x', {})).rejects.toMatchObject({ code: 'INVALID_TOPIC' })
    await expect(store.createTopic('x', { partitions: 0 })).rejects.toMatchObject({ code: 'INVALID_PARTITIONS' })
    await expect(store.createTopic('x', { segmentBytes: 3 })).rejects.toMatchObject({ code: 'INVALID_CONFIG' })
    await store.createTopic('x', {})
    await expect(store.createTopic('x', {})).rejects.toMatchObject({ code: 'TOPIC_EXISTS' })
    await expect(store.deleteTopic('y')).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC' })
    expect(() => store.watermarks('y', 0)).toThrow(/no topic/)
  })

  test('a second store in the same folder is refused', async () => {
    const rig = await openRig()
    await expect(rig.reopen()).rejects.toMatchObject({ code: 'LOCKED' })
    await rig.store.close()
    const next = await rig.reopen()
    expect(next.store.clusterId).toBe(rig.store.clusterId)
  })
})

describe('reading', () => {
  test('gives whole batches from any offset on, across segments', async () => {
    const { store, batch } = await openRig()
    let last = batch({ lines: [noise(3000, 0)] })
    await store.append(last)
    for (let count = 1; count < 60; count += 1) {
      last = batch({ previous: last, lines: Array.from({ length: 1 + (count % 3) }, (_none, line) => noise(2000, count * 10 + line)) })
      await store.append(last)
    }
    expect(store.segments('app', 0).length).toBeGreaterThan(2)
    const { batches, missing } = await readAll(store)
    expect(missing).toEqual([])
    expect(batches).toHaveLength(60)
    const { highWatermark } = store.watermarks('app', 0)
    for (let offset = 0; offset < highWatermark; offset += 1) {
      const { batches: found, nextOffset } = await store.read({ topic: 'app', partition: 0, offset: toOffset(offset), bytesMax: 1 })
      const header = readBatchHeader(found)
      expect(header.baseOffset).toBeLessThanOrEqual(offset)
      expect(header.lastOffset).toBeGreaterThanOrEqual(offset)
      expect([found.length, nextOffset]).toEqual([header.sizeBytes, header.lastOffset + 1])
    }
    // Records 1, 2, 3: the third batch begins at 3, so an end of 3 keeps it out and one of 4 lets it in.
    for (const [endOffset, nextOffset] of [[3, 3], [4, 6]] as const) {
      const bounded = await store.read({ topic: 'app', partition: 0, offset: toOffset(0), bytesMax: 50_000, endOffset: toOffset(endOffset) })
      expect(bounded.nextOffset).toBe(nextOffset)
    }
    await expect(store.read({ topic: 'app', partition: 0, offset: toOffset(highWatermark + 1), bytesMax: 1 })).rejects.toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' })
  })

  test('a time gives an offset before which nothing is as late, also when the clock stepped back', async () => {
    const { store, batch } = await openRig()
    const times = [10, 50, 20, 30, 90, 40, 100, 60].map((seconds) => 1_700_000_000_000 + seconds * 1000)
    let last = batch({ lines: [noise(30_000, 1)], timestampMs: times[0] ?? 0 })
    await store.append(last)
    for (const timestampMs of times.slice(1)) {
      last = batch({ previous: last, lines: [noise(30_000, timestampMs)], timestampMs })
      await store.append(last)
    }
    expect(store.segments('app', 0).length).toBeGreaterThan(1)
    for (let seconds = 0; seconds <= 110; seconds += 5) {
      const time = 1_700_000_000_000 + seconds * 1000
      const first = times.findIndex((other) => other >= time)
      expect(await store.offsetForTimestamp('app', 0, time)).toBe(first < 0 ? times.length : first)
    }
  })
})
