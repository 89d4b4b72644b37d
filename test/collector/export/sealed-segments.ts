/** A log that consists of sealed segments only, written to a disk by hand: all that the exporter sees of a TopicLog. */
import { patchBatch } from '../../../shared/record-batch.ts'
import type { FileSystem } from '../../../shared/system.ts'
import { toOffset } from '../../../shared/types.ts'
import type { Zstd } from '../../../shared/zstd.ts'
import type { ExporterOptions } from '../../../collector/export/exporter.ts'
import { ensureDirectory } from '../../../collector/export/local-file.ts'
import type { SegmentInfo, TopicDescription, Watermarks } from '../../../collector/storage/topic-log.ts'
import { sealedBatch, type SealedBatch } from '../../sealed-batch.ts'

export interface AddOptions {
  readonly batches?: number
  readonly linesEach?: number
  readonly baseOffset?: number
  readonly timestampsMs?: readonly number[]
  readonly appendMs?: { readonly first: number; readonly last: number }
  readonly lines?: readonly (string | Buffer)[]
}

export class SealedSegments {
  readonly clusterId: string
  readonly logEpoch = 3
  private readonly folder: string
  private readonly fs: FileSystem
  private readonly zstd: Zstd
  private readonly byPartition = new Map<string, SegmentInfo[]>()
  private readonly last = new Map<string, SealedBatch>()
  /** Bytes of each `.log`, by path, as they were written. */
  readonly contents = new Map<string, Buffer>()

  constructor(options: { fs: FileSystem; zstd: Zstd; clusterId?: string; folder?: string }) {
    this.folder = options.folder ?? '/data'
    this.fs = options.fs
    this.zstd = options.zstd
    this.clusterId = options.clusterId ?? 'cluster-1'
  }

  /**
   * Appends one sealed segment of a few batches and answers it. `timestampsMs`: of the records, batch by batch (there are
   * then as many batches); `appendMs`: of the first and the last append. `lines`: of each batch, for contents of one's own.
   */
  async add(topic: string, partition: number, options: AddOptions = {}): Promise<SegmentInfo> {
    const name = `${topic}-${partition}`
    const segments = this.byPartition.get(name) ?? []
    const baseOffset = options.baseOffset ?? segments.at(-1)?.nextOffset ?? 0
    let nextOffset = baseOffset
    const batches: Buffer[] = []
    for (let count = 0; count < (options.timestampsMs?.length ?? options.batches ?? 3); count += 1) {
      const timestampMs = options.timestampsMs?.[count]
      const lines: readonly (string | Buffer)[] = options.lines ?? Array.from({ length: options.linesEach ?? 4 }, (_each, line) => `${name} line ${nextOffset + line}`)
      const previous = this.last.get(name)
      const sealed = sealedBatch({ zstd: this.zstd, lines, topic, path: `/var/log/${name}.log`, ...(previous === undefined ? {} : { previous }), ...(timestampMs === undefined ? {} : { timestampMs }) })
      patchBatch(sealed.batch, { baseOffset: toOffset(nextOffset), leaderEpoch: this.logEpoch })
      this.last.set(name, sealed)
      batches.push(sealed.batch)
      nextOffset += sealed.recordCount
    }
    const segment = await this.write({ name, topic, partition, baseOffset, nextOffset, log: Buffer.concat(batches), appendMs: options.appendMs })
    this.byPartition.set(name, [...segments, segment])
    return segment
  }

  private async write(found: { name: string; topic: string; partition: number; baseOffset: number; nextOffset: number; log: Buffer; appendMs: AddOptions['appendMs'] }): Promise<SegmentInfo> {
    const directory = `${this.folder}/topics/${found.name}`
    await ensureDirectory(this.fs, directory)
    const stem = `${directory}/${String(found.baseOffset).padStart(20, '0')}`
    const files = { log: `${stem}.log`, index: `${stem}.index`, timeIndex: `${stem}.timeindex`, meta: `${stem}.meta` }
    await this.put(files.log, found.log)
    await this.put(files.index, Buffer.from(`index of ${found.baseOffset}`))
    await this.put(files.timeIndex, Buffer.alloc(0))
    this.contents.set(files.log, found.log)
    return {
      topic: found.topic,
      partition: found.partition,
      baseOffset: toOffset(found.baseOffset),
      nextOffset: toOffset(found.nextOffset),
      sizeBytes: found.log.length,
      isSealed: true,
      firstAppendMs: found.appendMs?.first ?? 1_767_225_600_000,
      lastAppendMs: found.appendMs?.last ?? 1_767_225_600_500,
      maxTimestampMs: 1_767_225_600_000,
      files,
    }
  }

  /** Durable, as a sealed segment is. */
  async put(path: string, bytes: Buffer): Promise<void> {
    const file = await this.fs.open(path, 'truncateWrite')
    if (bytes.length > 0) await file.write([bytes], 0)
    await file.sync()
    await file.close()
    await this.fs.syncDirectory(path.slice(0, path.lastIndexOf('/')))
  }

  /** Retention, or a lost file: the log does not list it any more. */
  drop(segment: SegmentInfo): void {
    const name = `${segment.topic}-${segment.partition}`
    this.byPartition.set(name, (this.byPartition.get(name) ?? []).filter((each) => each.baseOffset !== segment.baseOffset))
  }

  get log(): ExporterOptions['log'] {
    return {
      clusterId: this.clusterId,
      logEpoch: this.logEpoch,
      topics: () => this.describeTopics(),
      segments: (topic, partition) => this.byPartition.get(`${topic}-${partition}`) ?? [],
      watermarks: (topic, partition) => this.watermarks(topic, partition),
      roll: () => Promise.resolve(),
    }
  }

  private watermarks(topic: string, partition: number): Watermarks {
    const segments = this.byPartition.get(`${topic}-${partition}`) ?? []
    const end = segments.at(-1)?.nextOffset ?? toOffset(0)
    const logStartOffset = segments[0]?.baseOffset ?? end
    return { logStartOffset, localLogStartOffset: logStartOffset, highWatermark: end, logEndOffset: end }
  }

  private describeTopics(): TopicDescription[] {
    const topics = new Map<string, TopicDescription['partitions'][number][]>()
    for (const [name, segments] of this.byPartition) {
      const topic = name.slice(0, name.lastIndexOf('-'))
      const partition = Number(name.slice(name.lastIndexOf('-') + 1))
      const info = { partition, ...this.watermarks(topic, partition), sizeBytes: 0, segmentCount: segments.length, firstAppendMs: undefined, lastAppendMs: undefined, state: 'ok' as const }
      topics.set(topic, [...(topics.get(topic) ?? []), info])
    }
    const config = { partitions: 4, segmentBytes: 1, segmentAgeMs: 1, retentionBytes: undefined, retentionAgeMs: undefined }
    return [...topics].map(([name, partitions]) => ({ name, config, partitions }))
  }
}
