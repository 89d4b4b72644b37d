import { beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { createExporter, type Exporter, type ExporterOptions } from '../../../collector/export/exporter.ts'
import { createFileStore } from '../../../collector/export/file-store.ts'
import { parseSegmentPath, segmentFileKinds, segmentPath } from '../../../collector/export/layout.ts'
import { parseManifest } from '../../../collector/export/manifest.ts'
import { readSmall, type RemoteStore } from '../../../collector/export/remote-store.ts'
import type { SegmentVerification } from '../../../collector/export/verify-export.ts'
import { AppError, toAppError } from '../../../shared/errors.ts'
import { decodeSourceHeader } from '../../../shared/source-header.ts'
import { toOffset } from '../../../shared/types.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import type { SegmentInfo } from '../../../collector/storage/topic-log.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { settle, simulate, type Simulation } from '../../sim-system.ts'
import { codeOf } from './remote-store-contract.ts'
import { SealedSegments } from './sealed-segments.ts'

let zstd: Zstd
let sim: Simulation
let remoteDisk: SimFileSystem
let store: RemoteStore
let segments: SealedSegments

beforeAll(async () => {
  zstd = await loadZstd()
})

beforeEach(() => {
  sim = simulate()
  remoteDisk = new SimFileSystem({ nowMs: () => sim.clock.nowMs() })
  store = createFileStore(remoteDisk, '/hdfs')
  segments = new SealedSegments({ fs: sim.fs, zstd })
})

function open(options: Partial<ExporterOptions> = {}): Exporter {
  return createExporter(sim.system, { log: segments.log, store, zstd, dataDir: '/data', ...options })
}

async function started(options: Partial<ExporterOptions> = {}): Promise<Exporter> {
  const exporter = open(options)
  await exporter.start()
  return exporter
}

async function verified(exporter: Exporter, deep: boolean): Promise<SegmentVerification[]> {
  const results: SegmentVerification[] = []
  for await (const result of exporter.verify({ deep })) results.push(result)
  return results
}

function keyOf(segment: SegmentInfo): Parameters<typeof segmentPath>[0] {
  const { topic, partition, baseOffset, nextOffset } = segment
  return { topic, partition, baseOffset, nextOffset, epoch: 3 }
}

async function storedLog(segment: SegmentInfo): Promise<Buffer> {
  return readSmall(store, segmentPath(keyOf(segment), 'log'), 1 << 30)
}

/** Four files, byte for byte, and nothing else beside them. */
async function expectExported(...expected: readonly SegmentInfo[]): Promise<void> {
  for (const segment of expected) {
    expect((await storedLog(segment)).equals(segments.contents.get(segment.files.log) ?? Buffer.alloc(0))).toBe(true)
    const manifest = parseManifest(await readSmall(store, segmentPath(keyOf(segment), 'manifest.json'), 1 << 20), keyOf(segment))
    expect(manifest.records).toBe(segment.nextOffset - segment.baseOffset)
    for (const file of manifest.files) expect((await store.stat(segmentPath(keyOf(segment), file.kind)))?.lengthBytes).toBe(file.lengthBytes)
  }
  const names = await store.list('raw/app/p=0')
  expect(names.map((each) => each.name).every((name) => parseSegmentPath(`raw/app/p=0/${name}`) !== undefined)).toBe(true)
  expect(names).toHaveLength(expected.filter((each) => each.partition === 0 && each.topic === 'app').length * segmentFileKinds.length)
}

describe('an exporter', () => {
  test('puts every sealed segment on the store, byte for byte, with a manifest', async () => {
    const first = await segments.add('app', 0)
    const second = await segments.add('app', 0, { batches: 1 })
    const other = await segments.add('app', 1)
    const exporter = await started()
    await exporter.exportNow()
    await expectExported(first, second, other)
    expect(exporter.status().map(({ partition, exportedOffset, state, lagSegments }) => ({ partition, exportedOffset, state, lagSegments }))).toEqual([
      { partition: 0, exportedOffset: second.nextOffset, state: 'idle', lagSegments: 0 },
      { partition: 1, exportedOffset: other.nextOffset, state: 'idle', lagSegments: 0 },
    ])
    expect(await store.list('_tmp')).toEqual([])
    await exporter.close()
  })

  test('works in the background, without being asked', async () => {
    const exporter = await started()
    const segment = await segments.add('app', 0)
    await sim.clock.advance(2_000)
    await expectExported(segment)
    await exporter.close()
  })

  test('a manifest carries the positions of the streams, and is the same when made again', async () => {
    const segment = await segments.add('app', 0, { batches: 3, linesEach: 5 })
    const exporter = await started()
    await exporter.exportNow()
    const path = segmentPath(keyOf(segment), 'manifest.json')
    const bytes = await readSmall(store, path, 1 << 20)
    const [stream] = parseManifest(bytes, keyOf(segment)).streams
    expect(stream).toMatchObject({ keyPath: '/var/log/app-0.log', records: 15, firstOffset: 0, lastOffset: 14 })
    const header = decodeSourceHeader(Buffer.from(stream?.header ?? '', 'base64'))
    expect(header.end).toBe(15 * 'app-0 line 0\n'.length + 5)
    await exporter.close()
    const elsewhere = createFileStore(new SimFileSystem(), '/hdfs')
    const again = createExporter(simulate({ fs: sim.fs }).system, { log: segments.log, store: elsewhere, zstd, dataDir: '/data-2' })
    await again.start()
    await again.exportNow()
    expect((await readSmall(elsewhere, path, 1 << 20)).equals(bytes)).toBe(true)
    await again.close()
  })

  test('retention may rely on a segment only after it was found whole on the store a while later', async () => {
    const segment = await segments.add('app', 0)
    const exporter = await started({ recheckAfterMs: 60_000 })
    expect(exporter.exportedOffset('app', 0)).toBe(0)
    await exporter.exportNow()
    expect(exporter.status()[0]?.exportedOffset).toBe(segment.nextOffset)
    expect(exporter.exportedOffset('app', 0)).toBe(0)
    await sim.clock.advance(62_000)
    expect(exporter.exportedOffset('app', 0)).toBe(segment.nextOffset)
    await exporter.close()
    const next = await started()
    expect(next.exportedOffset('app', 0)).toBe(segment.nextOffset)
    await next.close()
  })

  test('a segment that is gone from the store at the second look is exported again', async () => {
    const segment = await segments.add('app', 0)
    const exporter = await started({ recheckAfterMs: 60_000 })
    await exporter.exportNow()
    await store.remove(segmentPath(keyOf(segment), 'log'))
    await sim.clock.advance(70_000)
    await expectExported(segment)
    expect(sim.log.events('error')).toContain('an exported segment is not whole on the store any more')
    await sim.clock.advance(70_000)
    expect(exporter.exportedOffset('app', 0)).toBe(segment.nextOffset)
    await exporter.close()
  })

  test('verify names what is missing, short or altered, and only a deep one sees the last', async () => {
    const [whole, missing, short, altered] = [await segments.add('app', 0), await segments.add('app', 0), await segments.add('app', 0), await segments.add('app', 0)]
    const exporter = await started()
    await exporter.exportNow()
    await store.remove(segmentPath(keyOf(missing), 'timeindex'))
    const overwrite = async (segment: SegmentInfo, change: (bytes: Buffer) => Buffer): Promise<void> => {
      const path = segmentPath(keyOf(segment), 'log')
      const bytes = change(Buffer.from(await readSmall(store, path, 1 << 30)))
      const file = await remoteDisk.open(`/hdfs/${path}`, 'truncateWrite')
      await file.write([bytes], 0)
      await file.close()
    }
    await overwrite(short, (bytes) => bytes.subarray(0, bytes.length - 1))
    await overwrite(altered, (bytes) => {
      bytes.writeUInt8(bytes.readUInt8(100) ^ 1, 100)
      return bytes
    })
    const results = async (deep: boolean): Promise<string[]> => (await verified(exporter, deep)).map((each) => `${each.baseOffset} ${each.result} ${each.file ?? ''}`)
    const common = [`${whole.baseOffset} ok `, `${missing.baseOffset} missing timeindex`, `${short.baseOffset} length log`]
    expect(await results(false)).toEqual([...common, `${altered.baseOffset} ok `])
    expect(await results(true)).toEqual([...common, `${altered.baseOffset} checksum log`])
    await exporter.close()
  })
})

describe('what an exporter meets', () => {
  test('a gap is an alarm, stops that partition only, and an operator may give it up', async () => {
    const first = await segments.add('app', 0)
    const other = await segments.add('app', 1)
    const exporter = await started()
    await exporter.exportNow()
    const behind = await segments.add('app', 0, { baseOffset: first.nextOffset + 10 })
    const otherNext = await segments.add('app', 1)
    expect(await codeOf(exporter.exportNow())).toBe('CONFLICT')
    await sim.clock.advance(5_000)
    expect(exporter.status().map((each) => each.state)).toEqual(['gap', 'idle'])
    expect(exporter.status()[1]?.exportedOffset).toBe(otherNext.nextOffset)
    expect(exporter.alarms()).toMatchObject([{ code: 'EXPORT_GAP' }])
    await expectExported(first, other)
    const range = exporter.skippable('app', 0)
    expect(range).toEqual({ fromOffset: first.nextOffset, toOffset: behind.baseOffset })
    if (range === undefined) return
    expect(await codeOf(exporter.skip('app', 0, { ...range, fromOffset: toOffset(0) }))).toBe('CONFLICT')
    await exporter.skip('app', 0, range)
    expect(exporter.skippable('app', 0)).toBeUndefined()
    await exporter.exportNow()
    expect(exporter.status()[0]).toMatchObject({ state: 'idle', exportedOffset: behind.nextOffset })
    expect(exporter.alarms()).toEqual([])
    await exporter.close()
  })

  test('a damaged segment is set aside with an alarm; those behind it go on, but nothing beyond it counts', async () => {
    const first = await segments.add('app', 0)
    const damaged = await segments.add('app', 0)
    const third = await segments.add('app', 0)
    const whole = segments.contents.get(damaged.files.log) ?? Buffer.alloc(0)
    const bad = Buffer.from(whole)
    bad.writeUInt8(bad.readUInt8(bad.length - 5) ^ 1, bad.length - 5)
    await segments.put(damaged.files.log, bad)
    const exporter = await started({ recheckAfterMs: 0 })
    expect(await codeOf(exporter.exportNow())).toBe('CORRUPT_DATA')
    await expectExported(first, third)
    expect(exporter.status()[0]).toMatchObject({ state: 'parked', exportedOffset: first.nextOffset })
    await sim.clock.advance(5_000)
    expect(exporter.exportedOffset('app', 0)).toBe(first.nextOffset)
    expect(exporter.alarms()).toMatchObject([{ code: 'EXPORT_SEGMENT_DAMAGED' }])
    // Repaired: found at the next look.
    await segments.put(damaged.files.log, whole)
    await sim.clock.advance(700_000)
    await expectExported(first, damaged, third)
    expect(exporter.exportedOffset('app', 0)).toBe(third.nextOffset)
    expect(exporter.alarms()).toEqual([])
    await exporter.close()
  })

  test('a file under a final name that is not ours is quarantined, not adopted and not overwritten', async () => {
    const segment = await segments.add('app', 0)
    await store.makeDirectories('raw/app/p=0')
    const foreign = Buffer.alloc(segment.sizeBytes, 1)
    await store.put(segmentPath(keyOf(segment), 'log'), { lengthBytes: foreign.length, open: async function* () { yield foreign } })
    const exporter = await started()
    await exporter.exportNow()
    await expectExported(segment)
    const [aside] = await store.list('_quarantine/app/p=0')
    expect(aside?.lengthBytes).toBe(segment.sizeBytes)
    expect(exporter.alarms()).toMatchObject([{ code: 'EXPORT_QUARANTINED' }])
    await exporter.close()
  })

  test('a store that refuses parks the partition with its reason and is tried again for ever', async () => {
    const segment = await segments.add('app', 0)
    let refusals = 3
    const refusing: RemoteStore = {
      ...store,
      put: (path, source, options) => {
        if (!path.startsWith('_tmp') || refusals === 0) return store.put(path, source, options)
        refusals -= 1
        return Promise.reject(new AppError('REMOTE_REFUSED', 'The DiskSpace quota is exceeded'))
      },
    }
    const exporter = await started({ store: refusing })
    await sim.clock.advance(2_000)
    expect(exporter.status()[0]).toMatchObject({ state: 'parked', reason: 'The DiskSpace quota is exceeded' })
    expect(exporter.alarms()).toMatchObject([{ code: 'EXPORT_PARKED' }])
    await sim.clock.advance(1_000_000)
    await expectExported(segment)
    expect(exporter.alarms()).toEqual([])
    await exporter.close()
  })

  test('an upload that arrives short or altered is sent again, never renamed', async () => {
    const segment = await segments.add('app', 0)
    let damages = 2
    const damaging: RemoteStore = {
      ...store,
      put: async (path, source, options) => {
        await store.put(path, source, options)
        if (!path.startsWith('_tmp') || !path.endsWith('.log') || damages === 0) return
        damages -= 1
        const file = await remoteDisk.open(`/hdfs/${path}`, 'readWrite')
        if (damages === 1) await file.truncate(10)
        else await file.write([Buffer.from('x')], 100)
        await file.close()
      },
    }
    const exporter = await started({ store: damaging })
    await exporter.exportNow()
    await expectExported(segment)
    expect(await store.list('_tmp')).toEqual([])
    await exporter.close()
  })

  test.each([
    { what: 'done, but answered false', before: true },
    { what: 'not done, and answered false', before: false },
  ])('a rename that was $what is settled by looking at both names', async ({ before }) => {
    const segment = await segments.add('app', 0)
    let lies = 2
    const lying: RemoteStore = {
      ...store,
      rename: async (from, to) => {
        if (lies === 0) return store.rename(from, to)
        lies -= 1
        if (before) await store.rename(from, to)
        return false
      },
    }
    const exporter = await started({ store: lying })
    await exporter.exportNow()
    await expectExported(segment)
    expect(await store.list('_tmp')).toEqual([])
    await exporter.close()
  })

  test('a verified upload that vanished before its rename is sent again', async () => {
    const segment = await segments.add('app', 0)
    let losses = 1
    const losing: RemoteStore = {
      ...store,
      rename: async (from, to) => {
        if (losses === 0) return store.rename(from, to)
        losses -= 1
        await store.remove(from)
        return false
      },
    }
    const exporter = await started({ store: losing })
    await exporter.exportNow()
    await expectExported(segment)
    await exporter.close()
  })

  test('debris of broken uploads is swept when it is a day old, live uploads are not', async () => {
    await store.makeDirectories('_tmp')
    const exporter = await started()
    await store.put('_tmp/0-debris.log', { lengthBytes: 1, open: async function* () { yield Buffer.from('x') } })
    await sim.clock.advance(4_000_000)
    expect(await store.list('_tmp')).toHaveLength(1)
    await exporter.close()
    await sim.clock.advance(25 * 3_600_000)
    const next = await started()
    await sim.clock.advance(2_000)
    expect(await store.list('_tmp')).toHaveLength(0)
    await next.close()
  })
})

describe('an exporter that dies', () => {
  /** Lets so many calls through, then none ever answers: what a dead process sees. `after`: the last one was carried out. */
  const mortal = (callsLeft: number, options: { after: boolean }): { store: RemoteStore; calls: () => number } => {
    let calls = 0
    const never = new Promise<never>(() => undefined)
    const guard = async <T>(work: () => Promise<T>): Promise<T> => {
      calls += 1
      if (calls < callsLeft) return work()
      if (calls === callsLeft && options.after) await work()
      return never
    }
    const dying: RemoteStore = {
      ...store,
      put: (path, source, putOptions) => guard(() => store.put(path, source, putOptions)),
      stat: (path) => guard(() => store.stat(path)),
      rename: (from, to) => guard(() => store.rename(from, to)),
      remove: (path) => guard(() => store.remove(path)),
      makeDirectories: (path) => guard(() => store.makeDirectories(path)),
      list: (path) => guard(() => store.list(path)),
      matches: (path, expected) => guard(() => store.matches(path, expected)),
    }
    return { store: dying, calls: () => calls }
  }

  test.each([
    { name: 'kill -9', powerCut: false, after: false },
    { name: 'kill -9 right after a call', powerCut: false, after: true },
    { name: 'a power cut', powerCut: true, after: false },
    { name: 'a power cut right after a call', powerCut: true, after: true },
  ])('$name at any call to the store: the next life finishes, nothing is lost, nothing is there twice', async ({ powerCut, after }) => {
    let deaths = 0
    for (let callsLeft = 1; ; callsLeft += 1) {
      sim = simulate({ seed: callsLeft })
      remoteDisk = new SimFileSystem()
      store = createFileStore(remoteDisk, '/hdfs')
      segments = new SealedSegments({ fs: sim.fs, zstd })
      const [first, second] = [await segments.add('app', 0), await segments.add('app', 0)]
      const dying = mortal(callsLeft, { after })
      const doomed = open({ store: dying.store })
      void doomed.start().then(() => doomed.exportNow().catch(() => undefined))
      await settle(8)
      const died = dying.calls() >= callsLeft
      if (died) deaths += 1
      if (powerCut) sim.fs.crash()
      else sim.fs.kill()
      const next = await started()
      expect(next.refusal()).toBeUndefined()
      await next.exportNow()
      await expectExported(first, second)
      expect(await store.list('_quarantine/app/p=0')).toEqual([])
      expect((await store.list('_owner')).length).toBeLessThanOrEqual(2)
      expect((await verified(next, true)).map((each) => each.result)).toEqual(['ok', 'ok'])
      await next.close()
      if (!died) break
    }
    expect(deaths).toBeGreaterThan(50)
  })

  test('a journal that is lost costs only work: files of ours are recognised by their checksums', async () => {
    const segment = await segments.add('app', 0)
    const first = await started()
    await first.exportNow()
    await first.close()
    await sim.fs.remove('/data/export/journal')
    let uploads = 0
    const counting: RemoteStore = {
      ...store,
      put: (path, source, options) => {
        if (path.startsWith('_tmp')) uploads += 1
        return store.put(path, source, options)
      },
    }
    const next = await started({ store: counting })
    await next.exportNow()
    await expectExported(segment)
    expect(uploads).toBe(0)
    await next.close()
  })
})

describe('whose store is it', () => {
  const refusalOf = async (exporter: Exporter): Promise<string | undefined> => {
    await exporter.start()
    const refusal = exporter.refusal()
    await exporter.close()
    return refusal === undefined ? undefined : toAppError(refusal).code
  }

  test('a restart is not a stranger', async () => {
    await segments.add('app', 0)
    for (let life = 0; life < 3; life += 1) {
      const exporter = await started()
      await exporter.exportNow()
      expect(exporter.refusal()).toBeUndefined()
      await exporter.close()
    }
  })

  test('a store of another cluster is refused', async () => {
    await segments.add('app', 0)
    await (await started()).close()
    segments = new SealedSegments({ fs: sim.fs, zstd, clusterId: 'cluster-2' })
    expect(await refusalOf(open({ dataDir: '/data-2' }))).toBe('RESTORE_REQUIRED')
  })

  test('a log that ends before what the store holds is refused, also with a new journal', async () => {
    await segments.add('app', 0)
    await segments.add('app', 0)
    const exporter = await started()
    await exporter.exportNow()
    await exporter.close()
    segments = new SealedSegments({ fs: sim.fs, zstd })
    await segments.add('app', 0)
    expect(await refusalOf(open())).toBe('RESTORE_REQUIRED')
    expect(await refusalOf(open({ dataDir: '/data-2' }))).toBe('RESTORE_REQUIRED')
  })

  test('a disk that was rolled back is refused though its log has grown past the store since', async () => {
    await segments.add('app', 0)
    await (await started()).close()
    const snapshot = SimFileSystem.after(sim.fs.operations, sim.fs.operations.length)
    await (await started()).close()
    await (await started()).close()
    sim = simulate({ fs: snapshot, seed: 9 })
    await segments.add('app', 0)
    await segments.add('app', 0)
    expect(await refusalOf(open())).toBe('RESTORE_REQUIRED')
  })

  test('of two copies that run at once, the one that comes later takes over and the other stops, refusing lines', async () => {
    const segment = await segments.add('app', 0)
    const original = await started()
    await original.exportNow()
    const copy = createExporter(simulate({ fs: SimFileSystem.after(sim.fs.operations, sim.fs.operations.length), seed: 5 }).system, { log: segments.log, store, zstd, dataDir: '/data' })
    await copy.start()
    expect(copy.refusal()).toBeUndefined()
    await segments.add('app', 0)
    expect(await codeOf(original.exportNow())).toBe('RESTORE_REQUIRED')
    expect(original.refusal()?.code).toBe('RESTORE_REQUIRED')
    await expectExported(segment)
    await copy.close()
    await original.close()
  })

  test('lines are taken while the store is away, and the question is asked again until it answers', async () => {
    const segment = await segments.add('app', 0)
    let isAway = true
    const away: RemoteStore = { ...store, makeDirectories: (path) => (isAway ? Promise.reject(new AppError('CANNOT_CONNECT', 'nobody there')) : store.makeDirectories(path)) }
    const exporter = await started({ store: away })
    expect(exporter.refusal()).toBeUndefined()
    expect(exporter.status()[0]).toMatchObject({ state: 'waiting', reason: 'nobody there' })
    expect(exporter.alarms()).toMatchObject([{ code: 'EXPORT_STORE_UNREACHABLE' }])
    isAway = false
    await sim.clock.advance(60_000)
    await expectExported(segment)
    expect(exporter.alarms()).toEqual([])
    await exporter.close()
  })

  test('start does not wait for ever for a store that hangs', async () => {
    const hanging: RemoteStore = { ...store, makeDirectories: () => new Promise(() => undefined) }
    const exporter = open({ store: hanging, startWaitMs: 10_000 })
    let isStarted = false
    void exporter.start().then(() => (isStarted = true))
    await sim.clock.advance(9_000)
    expect(isStarted).toBe(false)
    await sim.clock.advance(2_000)
    expect(isStarted).toBe(true)
  })
})
