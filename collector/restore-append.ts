/**
 * Last part of a restore: records that stand only in a log that was set aside are appended again, behind everything. A
 * batch with a source goes where its stream stands; where the exported bytes are further it is not needed, where they
 * differ it is not taken. Done again after a crash it appends nothing twice: such batches are `have` then, and a plain
 * one is known by its checksum among what the restore has appended.
 */
import { BATCH_HEADER_BYTES, peekBatchSize, readSourceHeader } from '../shared/record-batch.ts'
import type { System } from '../shared/system.ts'
import { toOffset } from '../shared/types.ts'
import { wireLimits } from '../shared/wire.ts'
import type { Zstd } from '../shared/zstd.ts'
import type { CollectorConfig } from './config.ts'
import { rescuedBatches, type Rescue, type RestoreMarker } from './storage/restored-folder.ts'
import { openTopicStore, type TopicStore } from './storage/topic-store.ts'

export interface AppendedAgain {
  readonly topic: string
  readonly partition: number
  readonly batches: number
  /** Not taken: their streams are further, or do not reach them. */
  readonly refused: number
}

const READ_BYTES = 4 * 1024 * 1024
/** CRC-32C of a batch: behind length, epoch and magic. */
const CRC_AT = 17

export async function appendAgain(system: System, options: { config: CollectorConfig; zstd: Zstd; marker: RestoreMarker }): Promise<readonly AppendedAgain[]> {
  const { config, zstd, marker } = options
  if (marker.rescues.length === 0) return []
  const store = await openTopicStore(system, {
    dataDir: config.dataDirectory, zstd, defaults: config.topicDefaults, batchContentBytesMax: wireLimits.batchContentBytesMax, restoring: { clusterId: '', isReading: false },
  })
  try {
    const appended: AppendedAgain[] = []
    for (const rescue of marker.rescues) appended.push(await appendOne({ store, zstd, rescue, batches: rescuedBatches(system.fs, config.dataDirectory, { marker, rescue }) }))
    return appended
  } finally {
    await store.close()
  }
}

interface Appending {
  readonly store: TopicStore
  readonly zstd: Zstd
  readonly rescue: Rescue
  readonly batches: AsyncIterable<Buffer>
}

async function appendOne({ store, zstd, rescue: { topic, partition }, batches }: Appending): Promise<AppendedAgain> {
  const known = await plainChecksums(store, { topic, partition })
  let count = 0
  let refused = 0
  for await (const found of batches) {
    // The log patches what it is given, and what was read is a view.
    const batch = Buffer.from(found)
    const source = readSourceHeader(batch, zstd, wireLimits.batchContentBytesMax)
    if (source === undefined) {
      const copies = known.get(checksumOf(batch)) ?? 0
      known.set(checksumOf(batch), copies - 1)
      if (copies > 0) continue
      await store.appendPlain({ topic, partition, batch })
      count += 1
      continue
    }
    const result = await store.append({ topic, source, batch })
    if (result.kind === 'ok') count += 1
    else if (result.kind !== 'have' || result.position < source.end) refused += 1
  }
  return { topic, partition, batches: count, refused }
}

/** How often each stands in the new log, which nobody but a restore has written to. */
async function plainChecksums(store: TopicStore, at: { topic: string; partition: number }): Promise<Map<string, number>> {
  const known = new Map<string, number>()
  const { localLogStartOffset, highWatermark } = store.watermarks(at.topic, at.partition)
  for (let offset = localLogStartOffset; offset < highWatermark; ) {
    const { batches, nextOffset } = await store.read({ ...at, offset, bytesMax: READ_BYTES })
    for (let start = 0; start + BATCH_HEADER_BYTES <= batches.length; ) {
      const size = peekBatchSize(batches, start)
      if (size === undefined || size < BATCH_HEADER_BYTES) break
      const checksum = checksumOf(batches.subarray(start, start + size))
      known.set(checksum, (known.get(checksum) ?? 0) + 1)
      start += size
    }
    if (nextOffset <= offset) break
    offset = toOffset(nextOffset)
  }
  return known
}

function checksumOf(batch: Buffer): string {
  return `${batch.readUInt32BE(CRC_AT)} ${batch.length}`
}
