/**
 * Scans some batches of one partition: decompress, match, and write the rows of what was found. Pure work on bytes,
 * without I/O or clock; it runs in a worker, or in the caller's thread in tests.
 *
 * A batch that can't be decoded is reported as damaged and the scan goes on behind it. Memory is bounded by one
 * decompressed batch and the page; time by CONTENT_BYTES_MAX: a page is cut there too, so that a cancelled query lets
 * go of its worker soon even when a few compressed bytes hold gigabytes.
 */
import { toAppError } from '../../shared/errors.ts'
import { CODEC_ZSTD, decodeRecords, recordsOf } from '../../shared/record-batch.ts'
import { wireLimits } from '../../shared/wire.ts'
import { parseFrame } from '../../shared/zstd-frame.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { BatchRows } from './batch-rows.ts'
import { PageBuilder } from './page-builder.ts'
import { compileMatcher } from './record-matcher.ts'
import type { DamagedRange, ScanPage, ScanTask, ScanUnit } from './scan-types.ts'
import { firstRecordKey, SourceDecider } from './source-decider.ts'
import { isSealed, splitUnit, type UnitBatch } from './unit-batch.ts'

const CONTENT_BYTES_MAX = 32 * 1024 * 1024
/** What `firstBlockSync` gives at most; up to here the whole batch costs the same. */
const FIRST_BLOCK_BYTES = 128 * 1024

export type UnitScanner = (unit: ScanUnit) => ScanPage

/** Compiles the task once; the scanner is then called for one unit after another, never at the same time. */
export function createUnitScanner(task: ScanTask, zstd: Zstd): UnitScanner {
  const decider = new SourceDecider(task.source)
  const rows = new BatchRows(task, compileMatcher(task.match), decider)
  // One batch at a time, and whatever of it goes into the page is copied.
  let memory = Buffer.alloc(0)
  const allocate = (bytes: number): Buffer => {
    if (memory.length < bytes) memory = Buffer.allocUnsafeSlow(bytes)
    return memory.subarray(0, bytes)
  }
  return (unit) => new UnitScan({ task, unit, zstd, decider, rows, allocate }).run()
}

interface ScanParts {
  readonly task: ScanTask
  readonly unit: ScanUnit
  readonly zstd: Zstd
  readonly decider: SourceDecider
  readonly rows: BatchRows
  readonly allocate: (bytes: number) => Buffer
}

class UnitScan {
  private readonly parts: ScanParts
  private readonly page: PageBuilder
  private readonly damaged: DamagedRange[] = []
  private contentBytes = 0
  private batchesRead = 0

  constructor(parts: ScanParts) {
    this.parts = parts
    this.page = new PageBuilder(parts.task, parts.unit)
  }

  run(): ScanPage {
    const { task, unit } = this.parts
    const batches = splitUnit(unit)
    const ordered = task.direction === 'forward' ? batches : batches.toReversed()
    for (const [at, batch] of ordered.entries()) {
      if (!this.scanBatch(batch)) break
      const next = ordered[at + 1]
      if (next === undefined || this.contentBytes < CONTENT_BYTES_MAX) continue
      if (task.direction === 'forward') this.page.cutAt(next.header.baseOffset, next.priorMaxMs)
      else this.page.cutAt(batch.header.baseOffset, 0)
      break
    }
    const { batchesRead, contentBytes, damaged } = this
    return this.page.finish({ batchesRead, contentBytes, damaged })
  }

  /** False when the page is full. */
  private scanBatch(batch: UnitBatch): boolean {
    const { task, unit, zstd, decider, rows } = this.parts
    try {
      if (decider.isNeeded && !this.mayHold(batch)) return true
      const raw = decodeRecords(batch.bytes, zstd, wireLimits.batchContentBytesMax, this.parts.allocate)
      this.batchesRead += 1
      this.contentBytes += raw.length
      rows.collect(raw, batch, unit)
    } catch (error) {
      const { code, message } = toAppError(error)
      const { baseOffset, lastOffset } = batch.header
      this.damaged.push({ fromOffset: baseOffset, toOffset: lastOffset + 1, reason: `${code}: ${message}` })
      return true
    }
    return this.page.addBatch(rows, batch.priorMaxMs, task.direction)
  }

  /** Asks the first block for the record key, which is the same in the whole of a sealed batch. */
  private mayHold(batch: UnitBatch): boolean {
    const { zstd, decider } = this.parts
    if (!isSealed(batch.header) || batch.header.codec !== CODEC_ZSTD) return true
    const frame = recordsOf(batch.bytes)
    if (parseFrame(frame, wireLimits.batchContentBytesMax).contentSize <= FIRST_BLOCK_BYTES) return true
    const key = firstRecordKey(zstd.firstBlockSync(frame, wireLimits.batchContentBytesMax))
    return key === undefined || decider.admits(key)
  }
}
