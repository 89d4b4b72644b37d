/** One batch of a scan unit, as views into the unit's buffer. */
import { readBatchHeader, type BatchHeader } from '../../shared/record-batch.ts'
import type { ScanUnit } from './scan-types.ts'

export interface UnitBatch {
  readonly bytes: Buffer
  readonly header: BatchHeader
  /** Largest timestamp of the partition before this batch. */
  readonly priorMaxMs: number
}

/** Batches of agents bear a producer id of 2^62 and above (record-batch.ts): all their records have one key. */
export function isSealed(header: BatchHeader): boolean {
  return header.producerId >= 1n << 62n
}

export function splitUnit(unit: ScanUnit): UnitBatch[] {
  const all = Buffer.from(unit.batches.buffer, unit.batches.byteOffset, unit.batches.byteLength)
  const batches: UnitBatch[] = []
  let at = 0
  for (const priorMaxMs of unit.priorMaxMs) {
    const header = readBatchHeader(all, at)
    batches.push({ bytes: all.subarray(at, at + header.sizeBytes), header, priorMaxMs })
    at += header.sizeBytes
  }
  return batches
}
