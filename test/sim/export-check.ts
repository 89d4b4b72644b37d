/**
 * The export store as it stands on the disk, at any time, also right after a power cut:
 *
 * - I7: exported ranges of a partition follow on each other without gap or overlap.
 * - I8: a final name has full length and the right bytes: the batches that its offsets name, as they were read.
 * - I9: nothing was dropped locally before it was exported.
 */
import { createHash } from 'node:crypto'
import { parseSegmentPath } from '../../collector/export/layout.ts'
import { parseManifest } from '../../collector/export/manifest.ts'
import { readBatchHeader } from '../../shared/record-batch.ts'
import type { TopicInfo } from '../../shared/wire.ts'
import type { SimFileSystem } from '../sim-fs.ts'
import { bodyCrcOf, type Ledger } from './ledger.ts'
import type { Trace } from './trace.ts'

export const STORE_ROOT = '/hdfs'

export interface ExportCheck {
  readonly disk: SimFileSystem
  readonly ledger: Ledger
  readonly trace: Trace
  readonly topic: TopicInfo | undefined
  /** By partition, what has to be exported by now. */
  readonly required: ReadonlyMap<number, number>
}

export function checkExports(check: ExportCheck): void {
  const { disk, trace } = check
  const ends = new Map<number, number>()
  const prefix = `${STORE_ROOT}/`
  const files = new Map([...disk.files()].filter(([path]) => path.startsWith(`${prefix}raw/`)).map(([path, bytes]) => [path.slice(prefix.length), bytes]))
  for (const [path, bytes] of files) {
    const found = parseSegmentPath(path)
    if (found === undefined) {
      trace.violation('I8', `${path} on the store is no name of ours`)
      continue
    }
    if (found.kind === 'log') checkBatches(check, { ...found.key, bytes })
    if (found.kind !== 'manifest.json') continue
    const manifest = parseManifest(bytes, found.key)
    for (const file of manifest.files) {
      const stored = files.get(path.replace(/manifest\.json$/, file.kind))
      const sum = stored === undefined ? undefined : createHash('sha256').update(stored).digest('hex')
      if (sum !== file.sha256) trace.violation('I8', `${path} names a ${file.kind} of ${file.lengthBytes} bytes, there are ${stored?.length}`)
    }
    const { partition, baseOffset, nextOffset } = manifest
    const end = ends.get(partition) ?? 0
    if (baseOffset !== end) trace.violation('I7', `partition ${partition}: exported ${baseOffset}-${nextOffset} follows on ${end}`)
    ends.set(partition, nextOffset)
  }
  checkEnds(check, ends)
}

function checkEnds({ topic, trace, required }: ExportCheck, ends: ReadonlyMap<number, number>): void {
  for (const { partition, logStartOffset } of topic?.partitions ?? []) {
    const exported = ends.get(partition) ?? 0
    if (logStartOffset > exported) trace.violation('I9', `partition ${partition} begins at ${logStartOffset}, exported is up to ${exported}`)
    const needed = required.get(partition) ?? 0
    if (exported < needed) trace.violation('I7', `partition ${partition}: exported up to ${exported}, not to ${needed}`)
  }
}

function checkBatches({ ledger, trace }: ExportCheck, segment: { partition: number; baseOffset: number; nextOffset: number; bytes: Buffer }): void {
  const { partition, bytes } = segment
  let offset = segment.baseOffset
  for (let at = 0; at < bytes.length; ) {
    const header = readBatchHeader(bytes, at)
    const batch = bytes.subarray(at, at + header.sizeBytes)
    const seen = ledger.partition(partition).batches.get(header.baseOffset)
    if (header.baseOffset !== offset) trace.violation('I8', `exported partition ${partition}: batch at ${header.baseOffset}, expected ${offset}`)
    if (batch.length !== header.sizeBytes || seen === undefined || seen.bodyCrc !== bodyCrcOf(batch)) {
      trace.violation('I8', `exported partition ${partition}: the batch at ${header.baseOffset} is not the one that was read`)
    }
    offset = header.lastOffset + 1
    at += header.sizeBytes
  }
  if (offset !== segment.nextOffset) trace.violation('I8', `exported partition ${partition}: ${segment.baseOffset}-${segment.nextOffset} ends at ${offset}`)
}
