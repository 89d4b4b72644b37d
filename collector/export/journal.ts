/**
 * The export's memory: an append-only file `<data>/export/journal` and the state that is its fold. It is the only truth
 * about how far an export came; the store is never listed to find out.
 *
 * `append` answers when the record is durable; calls at the same time share a sync. `note` is for facts whose loss costs
 * only work. A torn tail (the crash fell into an append) is dropped. Damage in the middle is set aside as
 * `journal.damaged-<ms>` and what stands behind it is kept: a lost record means a step done again, which every step
 * bears. After a failed sync nothing is written any more; each start writes the journal anew, so that nothing rests on
 * what only the page cache holds.
 *
 * Compaction writes the state to `journal.new`, syncs, renames over `journal`, syncs the directory: a crash in between
 * leaves the old one.
 */
import { AppError, assert, errnoOf } from '../../shared/errors.ts'
import type { FileHandle, FileSystem, Log, System } from '../../shared/system.ts'
import type { Offset } from '../../shared/types.ts'
import { applyRecord, decodeFrame, emptyState, encodeFrame, partitionName, snapshotRecords, type ExportedSegment, type ExportState, type JournalRecord } from './journal-format.ts'
import { ensureDirectory, readRange, writeAll } from './local-file.ts'

/** A journal is rewritten when it is twice its snapshot and over this. */
const COMPACT_BYTES_MIN = 1024 * 1024
/** 4 million segments; beyond that somebody has put another file here. */
const JOURNAL_BYTES_MAX = 2 * 1024 * 1024 * 1024 - 1
const WRITE_BYTES = 1024 * 1024

interface Waiting {
  readonly frame: Buffer
  readonly record: JournalRecord
  readonly isSynced: boolean
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

const noSegments: ReadonlyMap<Offset, ExportedSegment> = new Map()

export async function openJournal(system: Pick<System, 'fs' | 'clock' | 'log'>, directory: string, onFailed: (error: AppError) => void = () => undefined): Promise<Journal> {
  const { fs } = system
  await ensureDirectory(fs, directory)
  const path = `${directory}/journal`
  const bytes = await readJournal(fs, path)
  const { state, isWhole, damagedRanges } = fold(bytes)
  if (damagedRanges > 0) {
    const aside = `${directory}/journal.damaged-${system.clock.nowMs()}`
    await writeNew(fs, aside, [bytes])
    system.log.error('the export journal was damaged in the middle', { path, keptAs: aside, ranges: damagedRanges })
  }
  const journal = new Journal(fs, system.log, { directory, path, state, fileBytes: bytes.length, onFailed })
  // What was read may stand in the page cache only, for good if a sync had failed: a fresh file is surely on the disk.
  // And appending behind a torn tail would hide what is appended.
  try {
    await journal.compact()
  } catch (error) {
    if (!isWhole || bytes.length === 0 || !isDiskFull(error)) throw error
    system.log.warn('no room to write the export journal anew, the old one is used as it is', { path })
    await journal.reopen()
  }
  return journal
}

function isDiskFull(error: unknown): boolean {
  return error instanceof AppError ? error.code === 'DISK_FULL' : errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT'
}

async function readJournal(fs: FileSystem, path: string): Promise<Buffer> {
  const stat = await fs.stat(path)
  if (stat === undefined) return Buffer.alloc(0)
  if (stat.size > JOURNAL_BYTES_MAX) throw new AppError('CORRUPT_DATA', `${path} has ${stat.size} bytes`)
  const pieces: Uint8Array[] = []
  for await (const piece of readRange(fs, path, { offset: 0, length: stat.size })) pieces.push(piece)
  return Buffer.concat(pieces)
}

function fold(bytes: Buffer): { state: ExportState; isWhole: boolean; damagedRanges: number } {
  const state = emptyState()
  let at = 0
  let isWhole = true
  let damagedRanges = 0
  while (at < bytes.length) {
    const frame = decodeFrame(bytes, at)
    if (frame !== undefined) {
      applyRecord(state, frame.record)
      at = frame.end
      continue
    }
    isWhole = false
    const next = nextFrame(bytes, at + 1)
    if (next === undefined) break
    damagedRanges += 1
    at = next
  }
  return { state, isWhole, damagedRanges }
}

/** Where the next valid frame begins. JSON text read as a length is far over the limit, so few places cost a CRC. */
function nextFrame(bytes: Buffer, from: number): number | undefined {
  for (let at = from; at < bytes.length; at += 1) if (decodeFrame(bytes, at) !== undefined) return at
  return undefined
}

async function writeNew(fs: FileSystem, path: string, pieces: Iterable<Uint8Array>): Promise<number> {
  const file = await fs.open(path, 'truncateWrite')
  let at = 0
  try {
    for (const piece of pieces) {
      await writeAll(file, piece, at)
      at += piece.length
    }
    await file.sync()
  } finally {
    await file.close()
  }
  return at
}

export class Journal {
  private readonly fs: FileSystem
  private readonly log: Log
  private readonly directory: string
  private readonly path: string
  private readonly state: ExportState
  private file: FileHandle | undefined
  private fileBytes: number
  private snapshotBytes = 0
  private waiting: Waiting[] = []
  private isWriting = false
  private writing: Promise<void> | undefined
  private failure: AppError | undefined
  private readonly onFailed: (error: AppError) => void

  constructor(fs: FileSystem, log: Log, found: { directory: string; path: string; state: ExportState; fileBytes: number; onFailed: (error: AppError) => void }) {
    this.fs = fs
    this.log = log
    this.directory = found.directory
    this.path = found.path
    this.state = found.state
    this.fileBytes = found.fileBytes
    this.onFailed = found.onFailed
  }

  get boot(): number {
    return this.state.boot
  }

  get nonce(): string {
    return this.state.nonce
  }

  get sizeBytes(): number {
    return this.fileBytes
  }

  /** Why nothing can be written any more; undefined while all is well. */
  get failed(): AppError | undefined {
    return this.failure
  }

  /** By base offset. In the order of their first planning, which is the order of offsets but for repairs. */
  segments(topic: string, partition: number): ReadonlyMap<Offset, ExportedSegment> {
    return this.state.partitions.get(partitionName({ topic, partition })) ?? noSegments
  }

  *partitions(): Generator<ReadonlyMap<Offset, ExportedSegment>> {
    yield* this.state.partitions.values()
  }

  /** Durable and folded in on return. DISK_FULL may be tried again; STORAGE_ERROR is for ever. */
  append(record: JournalRecord): Promise<void> {
    return this.enqueue(record, true)
  }

  /** Folded in, but not synced by itself. */
  note(record: JournalRecord): Promise<void> {
    return this.enqueue(record, false)
  }

  private enqueue(record: JournalRecord, isSynced: boolean): Promise<void> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
    return new Promise((resolve, reject) => {
      this.waiting.push({ frame: encodeFrame(record), record, isSynced, resolve, reject })
      if (!this.isWriting) this.writing = this.writeWaiting()
    })
  }

  /** One group after another until nobody waits. Callers wait for their record, so the queue is as long as there are uploads. */
  private async writeWaiting(): Promise<void> {
    this.isWriting = true
    while (this.waiting.length > 0) {
      const group = this.waiting
      this.waiting = []
      try {
        await this.writeGroup(group)
        for (const each of group) applyRecord(this.state, each.record)
        await this.compactIfDue()
        for (const each of group) each.resolve()
      } catch (error) {
        for (const each of group) each.reject(error)
      }
    }
    // In the same turn as the last look at the queue: who comes later starts a new writer.
    this.isWriting = false
  }

  private async writeGroup(group: readonly Waiting[]): Promise<void> {
    if (this.failure !== undefined) throw this.failure
    assert(this.file !== undefined, 'the journal is open')
    const bytes = Buffer.concat(group.map((each) => each.frame))
    try {
      await writeAll(this.file, bytes, this.fileBytes)
    } catch (error) {
      await this.cutBack(this.file)
      throw error instanceof AppError ? error : new AppError('DISK_FULL', `cannot write ${this.path}`, { cause: error })
    }
    if (group.some((each) => each.isSynced)) await this.sync(this.file)
    this.fileBytes += bytes.length
  }

  /** Records that were refused must not come back behind shorter ones that are written over them. */
  private async cutBack(file: FileHandle): Promise<void> {
    try {
      await file.truncate(this.fileBytes)
    } catch (error) {
      throw this.fail(`cannot cut ${this.path} back to its last good byte`, error)
    }
  }

  private async sync(file: FileHandle): Promise<void> {
    try {
      await file.datasync()
    } catch (error) {
      throw this.fail(`cannot sync ${this.path}`, error)
    }
  }

  private fail(message: string, cause: unknown): AppError {
    this.failure = new AppError('STORAGE_ERROR', message, { cause, hint: 'look at the disk, then restart: the export goes on where the journal is durable' })
    this.log.error('the export journal failed', { path: this.path })
    this.onFailed(this.failure)
    return this.failure
  }

  private async compactIfDue(): Promise<void> {
    if (this.fileBytes < COMPACT_BYTES_MIN || this.fileBytes < 2 * this.snapshotBytes) return
    try {
      await this.compact()
    } catch (error) {
      // The old journal is whole and goes on; a full disk must not stop an export that frees space.
      if (this.file === undefined) throw this.fail('cannot reopen the journal after compaction', error)
      this.snapshotBytes = this.fileBytes
      this.log.warn('could not compact the export journal', { path: this.path })
    }
  }

  /** Called at open and from the writer only, so nothing is appended meanwhile. */
  async compact(): Promise<void> {
    const fresh = `${this.path}.new`
    const bytes = await writeNew(this.fs, fresh, groupFrames(snapshotRecords(this.state)))
    await this.fs.rename(fresh, this.path)
    // From here on the old file is nobody's: if the directory can't be synced, neither of the two may be written.
    await this.file?.close()
    this.file = undefined
    await this.fs.syncDirectory(this.directory)
    this.fileBytes = bytes
    this.snapshotBytes = bytes
    await this.reopen()
  }

  async reopen(): Promise<void> {
    this.file = await this.fs.open(this.path, 'readWrite')
  }

  async close(): Promise<void> {
    await this.writing
    await this.file?.close()
    this.file = undefined
    this.failure ??= new AppError('ABORTED', 'the export journal is closed')
  }
}

/** Frames gathered to writes of about 1 MiB. */
function* groupFrames(records: Iterable<JournalRecord>): Generator<Buffer> {
  let frames: Buffer[] = []
  let bytes = 0
  for (const record of records) {
    const frame = encodeFrame(record)
    frames.push(frame)
    bytes += frame.length
    if (bytes < WRITE_BYTES) continue
    yield Buffer.concat(frames)
    frames = []
    bytes = 0
  }
  yield Buffer.concat(frames)
}
