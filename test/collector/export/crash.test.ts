/**
 * Every point at which an export can end, by power cut or by kill: the export runs once over a recording disk that holds
 * the collector's folder and the store, and each prefix of its operations is crashed, looked at and carried on. What bears
 * a final name is whole, what retention was told stands there, and the next life ends with every segment exactly once.
 */
import { createHash } from 'node:crypto'
import { beforeAll, expect, test } from 'vitest'
import { createExporter, type Exporter } from '../../../collector/export/exporter.ts'
import { createFileStore } from '../../../collector/export/file-store.ts'
import { openJournal } from '../../../collector/export/journal.ts'
import { parseSegmentPath, segmentFileKinds } from '../../../collector/export/layout.ts'
import { parseManifest } from '../../../collector/export/manifest.ts'
import type { SegmentInfo } from '../../../collector/storage/topic-log.ts'
import { loadZstd, type Zstd } from '../../../shared/zstd.ts'
import type { DiskOperation } from '../../sim-disk.ts'
import { SimFileSystem } from '../../sim-fs.ts'
import { simulate, type Simulation } from '../../sim-system.ts'
import { SealedSegments } from './sealed-segments.ts'

const TOPIC = 'app'
const PARTITIONS = [0, 1] as const
const RAW = '/hdfs/raw/app/'
const RECHECK_MS = 5_000
let zstd: Zstd

beforeAll(async () => {
  zstd = await loadZstd()
})

/** From here on retention may drop what lies below: somebody was told so. */
interface Claim {
  readonly operations: number
  readonly partition: number
  readonly exportedOffset: number
}

interface Recording {
  readonly operations: readonly DiskOperation[]
  /** Operations before the exporter's first: the segments themselves. */
  readonly begin: number
  readonly segments: SealedSegments
  readonly exported: readonly SegmentInfo[]
  readonly claims: readonly Claim[]
}

function exporterOn(sim: Simulation, segments: SealedSegments): Exporter {
  return createExporter(sim.system, { log: segments.log, store: createFileStore(sim.fs, '/hdfs'), zstd, dataDir: '/data', recheckAfterMs: RECHECK_MS })
}

/** Three segments in two partitions, and the look at them a while later. */
async function record(): Promise<Recording> {
  const sim = simulate()
  const segments = new SealedSegments({ fs: sim.fs, zstd })
  const exported = [await segments.add(TOPIC, 0), await segments.add(TOPIC, 0, { batches: 1 }), await segments.add(TOPIC, 1)]
  const begin = sim.fs.operations.length
  const claims: Claim[] = []
  const exporter = exporterOn(sim, segments)
  const claim = (): undefined => {
    for (const partition of PARTITIONS) claims.push({ operations: sim.fs.operations.length, partition, exportedOffset: exporter.exportedOffset(TOPIC, partition) })
  }
  sim.fs.inject = claim
  await exporter.start()
  await exporter.exportNow()
  // Exported counts as such only once it was looked at again.
  await sim.clock.advance(2 * RECHECK_MS)
  await exporter.exportNow()
  claim()
  await exporter.close()
  sim.fs.inject = undefined
  return { operations: [...sim.fs.operations], begin, segments, exported, claims }
}

type Fate = 'kill' | 'power cut' | 'torn'

function crashed({ operations }: Recording, count: number, fate: Fate): SimFileSystem {
  const fs = SimFileSystem.after(operations, count)
  if (fate === 'kill') fs.kill()
  else fs.crash(fate === 'torn' ? { seed: 1 + count } : {})
  return fs
}

/** I8: a final name has the bytes that its offsets name, and a manifest tells of nothing that is not there. */
function checkFinalNames(fs: SimFileSystem, { exported, segments }: Recording): Set<string> {
  const whole = new Set<string>()
  const files = fs.files()
  for (const [path, bytes] of files) {
    if (!path.startsWith(RAW)) continue
    const found = parseSegmentPath(path.slice('/hdfs/'.length))
    if (found === undefined) throw new Error(`${path} is no name of ours`)
    const { partition, baseOffset } = found.key
    if (found.kind === 'log') {
      const segment = exported.find((each) => each.partition === partition && each.baseOffset === baseOffset)
      expect(bytes.equals(segments.contents.get(segment?.files.log ?? '') ?? Buffer.alloc(0)), path).toBe(true)
    }
    if (found.kind !== 'manifest.json') continue
    for (const file of parseManifest(bytes, found.key).files) {
      const stored = files.get(path.replace(/manifest\.json$/, file.kind)) ?? Buffer.alloc(0)
      expect(createHash('sha256').update(stored).digest('hex'), `${file.kind} of ${path}`).toBe(file.sha256)
    }
    whole.add(`${partition}/${baseOffset}`)
  }
  return whole
}

/** I9: what was called exported before the crash is exported after it. */
function checkClaims(whole: ReadonlySet<string>, { claims, exported }: Recording, count: number): void {
  for (const { operations, partition, exportedOffset } of claims) {
    if (operations > count) break
    for (const segment of exported) {
      if (segment.partition === partition && segment.baseOffset < exportedOffset) expect([...whole]).toContain(`${partition}/${segment.baseOffset}`)
    }
  }
}

async function journalBytes(fs: SimFileSystem): Promise<Buffer | undefined> {
  const journal = await openJournal(simulate({ fs }).system, '/data/export')
  await journal.close()
  fs.crash()
  return fs.getFile('/data/export/journal')
}

/** Every segment once, all its files, nothing beside them. */
async function carryOn(fs: SimFileSystem, recording: Recording): Promise<Map<string, Buffer>> {
  const sim = simulate({ fs, seed: 9 })
  const exporter = exporterOn(sim, recording.segments)
  await exporter.start()
  expect(exporter.refusal()).toBeUndefined()
  await exporter.exportNow()
  await exporter.close()
  fs.crash()
  const whole = checkFinalNames(fs, recording)
  expect(whole.size).toBe(recording.exported.length)
  const stored = new Map([...fs.files()].filter(([path]) => path.startsWith(RAW)))
  expect(stored.size).toBe(recording.exported.length * segmentFileKinds.length)
  expect([...fs.files().keys()].filter((path) => path.startsWith('/hdfs/_quarantine/'))).toEqual([])
  return stored
}

async function checkPoint(recording: Recording, count: number, fate: Fate): Promise<void> {
  const fs = crashed(recording, count, fate)
  checkClaims(checkFinalNames(fs, recording), recording, count)
  const copy = fs.clone()
  const once = await journalBytes(copy)
  expect(await journalBytes(copy)).toEqual(once)
  const stored = await carryOn(fs, recording)
  if (count % 5 === 0) expect(await carryOn(fs, recording)).toEqual(stored)
}

test('wherever an export is cut off, final names are whole, what was called exported is there, and the next life finishes it', async () => {
  const recording = await record()
  expect(recording.operations.length - recording.begin).toBeGreaterThan(200)
  expect(Math.max(...recording.claims.filter(({ partition }) => partition === 0).map(({ exportedOffset }) => exportedOffset))).toBe(recording.exported[1]?.nextOffset)
  for (let count = recording.begin; count <= recording.operations.length; count += 1) {
    for (const fate of ['kill', 'power cut', 'torn'] as const) {
      try {
        await checkPoint(recording, count, fate)
      } catch (error) {
        throw new Error(`after ${count} operations, ${fate}`, { cause: error })
      }
    }
  }
}, 120_000)

test.each(['syncFile', 'syncDirectory'] as const)('these checks would catch an exporter that leaves out every %s', async (kind) => {
  const recording = await record()
  const kept = (count: number): number => recording.operations.slice(0, count).filter((operation, at) => at < recording.begin || operation.kind !== kind).length
  const broken: Recording = {
    ...recording,
    operations: recording.operations.filter((operation, at) => at < recording.begin || operation.kind !== kind),
    claims: recording.claims.map((claim) => ({ ...claim, operations: kept(claim.operations) })),
  }
  await expect(checkPoint(broken, broken.operations.length, 'power cut')).rejects.toThrow('expected')
})
