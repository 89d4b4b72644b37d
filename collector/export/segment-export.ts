/**
 * The way of one sealed segment to the store: planned → encoded → all files side by side (uploaded → verified) → one file
 * after the other renamed → recorded. Each arrow is a synced journal record, written when what it says is true; a process
 * that dies anywhere goes on from the last one. One run per partition at a time; runs of different partitions share
 * nothing but the journal, the owner file and their turn at reading.
 *
 * What each crash leaves, and what the next run makes of it:
 * - in an upload: a short or whole temp file that the journal does not know. A fresh name is used, the sweep removes it.
 * - behind a rename, before its record: the final name is there and the temp is not. `place` looks before it renames.
 * - between two files: final names without a manifest. Readers ignore them; the run goes on with the missing ones.
 * - before `recorded`: everything is there. The run finds each file renamed and writes the record.
 */
import { createHash } from 'node:crypto'
import { AppError, errnoOf, toAppError, unreachable } from '../../shared/errors.ts'
import { writeFileDurably } from '../../shared/files.ts'
import type { System } from '../../shared/system.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { Mutex } from '../storage/mutex.ts'
import type { SegmentInfo } from '../storage/topic-log.ts'
import type { EncodedFile, ExportedSegment, FileProgress } from './journal-format.ts'
import type { Journal } from './journal.ts'
import { localManifestName, partitionDirectory, quarantineDirectory, quarantinePath, segmentPath, TEMP_DIRECTORY, tempPath, type SegmentFileKind, type SegmentKey } from './layout.ts'
import { fileSource, peekRange } from './local-file.ts'
import { encodeManifest, MANIFEST_VERSION } from './manifest.ts'
import type { Owner } from './owner.ts'
import { isContent, type ByteSource, type ContentHasher, type RemoteStore } from './remote-store.ts'
import { scanSegment } from './segment-scan.ts'

export interface SegmentExportContext {
  readonly system: Pick<System, 'fs' | 'random' | 'log'>
  readonly store: RemoteStore
  readonly journal: Journal
  /** Known only once the store was found to be ours. */
  readonly owner: () => Owner
  readonly zstd: Zstd
  /** `<data>/export`. */
  readonly directory: string
  readonly clusterId: string
  readonly logEpoch: number
  readonly signal: AbortSignal
  /** Temp names in use by this process: the sweep leaves them alone. */
  readonly liveTemps: Set<string>
  /** One segment at a time is read and checked: this process has one thread for it, and who is done uploads meanwhile. */
  readonly scanTurn: Mutex
  readonly onUploaded: (lengthBytes: number) => void
  readonly onQuarantined: (key: SegmentKey, path: string) => void
}

/** Steps of one file in one run: three make an upload, three more follow each thing found wrong on the way. */
const FILE_STEPS_MAX = 12

/** Brings the segment to `recorded`. CORRUPT_DATA: the local segment is damaged. Everything else may be tried again. */
export async function exportSegment(context: SegmentExportContext, segment: SegmentInfo): Promise<void> {
  const entry = await plan(context, segment)
  const files = await encode(context, { segment, entry })
  const directory = partitionDirectory(segment.topic, segment.partition)
  await context.store.makeDirectories(TEMP_DIRECTORY)
  await context.store.makeDirectories(directory)
  const jobs = files.map((file) => ({ key: entry.key, segment, file }))
  // The small files and the announcement cost the store's patience, not its bandwidth: they go beside the log.
  const announced = context.owner().claim(entry.key, entry.key.nextOffset)
  await allOrFirstFailure([announced, ...jobs.map((job) => bringTo('verified', context, job))])
  // One after the other, the manifest last: it makes the others count.
  for (const job of jobs) await bringTo('renamed', context, job)
  await context.journal.append({ type: 'recorded', ...at(entry.key) })
  await removeLocalManifest(context, entry.key)
}

/** To the end of each, so that nothing of a failed run goes on beside the next one. */
async function allOrFirstFailure(work: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((each) => each.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

function at(key: SegmentKey): Pick<SegmentKey, 'topic' | 'partition' | 'baseOffset'> {
  return { topic: key.topic, partition: key.partition, baseOffset: key.baseOffset }
}

function journaled(context: SegmentExportContext, segment: SegmentInfo): ExportedSegment | undefined {
  return context.journal.segments(segment.topic, segment.partition).get(segment.baseOffset)
}

/** The journal's entry to go on with, made anew where it does not fit the segment. */
async function plan(context: SegmentExportContext, segment: SegmentInfo): Promise<ExportedSegment> {
  const known = journaled(context, segment)
  const isUsable = known?.progress.kind === 'planned' || known?.progress.kind === 'encoded'
  if (known !== undefined && isUsable && known.key.nextOffset === segment.nextOffset) return known
  const { topic, partition, baseOffset, nextOffset } = segment
  // The name keeps the epoch it first had: a re-export after a loss restores the same names.
  const key = { topic, partition, baseOffset, nextOffset, epoch: known?.key.epoch ?? context.logEpoch }
  await context.journal.append({ type: 'planned', ...key })
  return { key, progress: { kind: 'planned' } }
}

/** A file on its way. `fingerprint`: the store's own checksum, where this process has read the file. */
interface OutgoingFile extends EncodedFile {
  readonly fingerprint?: string
}

async function encode(context: SegmentExportContext, found: { segment: SegmentInfo; entry: ExportedSegment }): Promise<readonly OutgoingFile[]> {
  const { segment, entry } = found
  if (entry.progress.kind === 'encoded' && (await areAsEncoded(context, { key: entry.key, segment, files: entry.progress.files }))) {
    return entry.progress.files
  }
  if (entry.progress.kind === 'encoded') await context.journal.append({ type: 'planned', ...entry.key })
  const { files, maxTimestampMs } = await context.scanTurn.run(() => describeFiles(context, { key: entry.key, segment }))
  await context.journal.append({ type: 'encoded', ...at(entry.key), maxTimestampMs, files: files.map(withoutFingerprint) })
  return files
}

function withoutFingerprint({ kind, lengthBytes, sha256 }: OutgoingFile): EncodedFile {
  return { kind, lengthBytes, sha256 }
}

async function areAsEncoded(context: SegmentExportContext, found: { key: SegmentKey; segment: SegmentInfo; files: readonly EncodedFile[] }): Promise<boolean> {
  for (const file of found.files) {
    const stat = await context.system.fs.stat(localPath(context, found, file.kind))
    if (stat?.size !== file.lengthBytes) return false
  }
  return true
}

async function describeFiles(context: SegmentExportContext, found: { key: SegmentKey; segment: SegmentInfo }): Promise<{ files: OutgoingFile[]; maxTimestampMs: number | null }> {
  const { system, store, zstd } = context
  const { key, segment } = found
  if (context.signal.aborted) throw new AppError('ABORTED', 'the export was stopped')
  const fingerprint = store.fingerprint(segment.sizeBytes)
  const scan = await scanSegment(system.fs, segment, { zstd, fingerprint })
  const files: OutgoingFile[] = [{ kind: 'log', lengthBytes: segment.sizeBytes, sha256: scan.sha256, ...printed(fingerprint) }]
  for (const kind of ['index', 'timeindex'] as const) files.push(await hashFile(context, kind, localPath(context, found, kind)))
  const manifest = encodeManifest({
    version: MANIFEST_VERSION,
    clusterId: context.clusterId,
    ...key,
    batches: scan.batches,
    records: scan.records,
    minTimestampMs: scan.minTimestampMs,
    maxTimestampMs: scan.maxTimestampMs,
    firstAppendMs: segment.firstAppendMs ?? null,
    lastAppendMs: segment.lastAppendMs ?? null,
    files: files.map(withoutFingerprint),
    streams: [...scan.streams],
  })
  await writeFileDurably(system.fs, localPath(context, found, 'manifest.json'), manifest)
  return { files: [...files, await hashPieces(context, { kind: 'manifest.json', lengthBytes: manifest.length, pieces: [manifest] })], maxTimestampMs: scan.maxTimestampMs }
}

async function hashFile(context: SegmentExportContext, kind: SegmentFileKind, path: string): Promise<OutgoingFile> {
  const stat = await context.system.fs.stat(path)
  if (stat === undefined) throw new AppError('CORRUPT_DATA', `${path} is missing`)
  return hashPieces(context, { kind, lengthBytes: stat.size, pieces: peekRange(context.system.fs, path, { offset: 0, length: stat.size }) })
}

async function hashPieces(
  context: SegmentExportContext,
  { kind, lengthBytes, pieces }: { kind: SegmentFileKind; lengthBytes: number; pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array> },
): Promise<OutgoingFile> {
  const hash = createHash('sha256')
  const fingerprint = context.store.fingerprint(lengthBytes)
  for await (const piece of pieces) {
    hash.update(piece)
    fingerprint?.update(piece)
  }
  return { kind, lengthBytes, sha256: hash.digest('hex'), ...printed(fingerprint) }
}

function printed(hasher: ContentHasher | undefined): { fingerprint?: string } {
  return hasher === undefined ? {} : { fingerprint: hasher.digest() }
}

function localPath(context: SegmentExportContext, found: { key: SegmentKey; segment: SegmentInfo }, kind: SegmentFileKind): string {
  switch (kind) {
    case 'log':
      return found.segment.files.log
    case 'index':
      return found.segment.files.index
    case 'timeindex':
      return found.segment.files.timeIndex
    case 'manifest.json':
      return `${context.directory}/${localManifestName(found.key)}`
    default:
      return unreachable(kind)
  }
}

interface FileJob {
  readonly key: SegmentKey
  readonly segment: SegmentInfo
  readonly file: OutgoingFile
}

async function bringTo(goal: 'verified' | 'renamed', context: SegmentExportContext, job: FileJob): Promise<void> {
  for (let steps = 0; steps < FILE_STEPS_MAX; steps += 1) {
    if (context.signal.aborted) throw new AppError('ABORTED', 'the export was stopped')
    const progress = fileProgress(context, job)
    switch (progress.kind) {
      case 'pending':
        await adoptOrUpload(context, job)
        break
      case 'uploaded':
        await verify(context, job, progress.temp)
        break
      case 'verified':
        if (goal === 'verified') return
        await place(context, job, progress.temp)
        break
      case 'renamed':
        return
      default:
        unreachable(progress)
    }
  }
  throw new AppError('REMOTE_ERROR', `${segmentPath(job.key, job.file.kind)} does not settle: uploads keep arriving damaged`)
}

function fileProgress(context: SegmentExportContext, job: FileJob): FileProgress {
  const progress = journaled(context, job.segment)?.progress
  return (progress?.kind === 'encoded' ? progress.progress.get(job.file.kind) : undefined) ?? { kind: 'pending' }
}

function step(job: FileJob): { topic: string; partition: number; baseOffset: SegmentKey['baseOffset']; kind: SegmentFileKind } {
  return { ...at(job.key), kind: job.file.kind }
}

/** What stands under the final name is ours only if length and checksum say so: then an earlier life put it there. */
async function adoptOrUpload(context: SegmentExportContext, job: FileJob): Promise<void> {
  const final = segmentPath(job.key, job.file.kind)
  const match = await context.store.matches(final, { ...job.file, source: sourceOf(context, job) })
  if (match === 'same') {
    await context.journal.append({ type: 'renamed', ...step(job) })
    return
  }
  if (match !== 'missing') await quarantine(context, job)
  await upload(context, job)
}

async function upload(context: SegmentExportContext, job: FileJob): Promise<void> {
  const temp = tempPath(job.key, job.file.kind, context.system.random.bytes(8).toString('hex'))
  context.liveTemps.add(temp)
  try {
    await context.store.put(temp, sourceOf(context, job), { signal: context.signal })
    await context.journal.append({ type: 'uploaded', ...step(job), temp })
    context.onUploaded(job.file.lengthBytes)
  } catch (error) {
    // A refused upload may have left a file that counts against the quota it was refused for.
    await removeQuietly(context, temp)
    throw error
  } finally {
    context.liveTemps.delete(temp)
  }
}

function sourceOf(context: SegmentExportContext, job: FileJob): ByteSource {
  return fileSource(context.system.fs, localPath(context, job, job.file.kind), job.file.lengthBytes)
}

async function verify(context: SegmentExportContext, job: FileJob, temp: string): Promise<void> {
  const match = await context.store.matches(temp, { ...job.file, source: sourceOf(context, job) })
  if (match === 'same') {
    await context.journal.append({ type: 'verified', ...step(job) })
    return
  }
  if (match === 'checksum') await assertUnchanged(context, job, temp)
  const final = await context.store.stat(segmentPath(job.key, job.file.kind))
  if (match !== 'missing' || final === undefined) context.system.log.warn('an upload arrived damaged and is sent again', { temp, found: match })
  await discard(context, job, temp)
}

/** A disk may rot between the pass that hashed a file and the one that sent it: then it is not the way that is to blame. */
async function assertUnchanged(context: SegmentExportContext, job: FileJob, temp: string): Promise<void> {
  if (await isContent(sourceOf(context, job), job.file.sha256)) return
  await removeQuietly(context, temp)
  throw new AppError('CORRUPT_DATA', `${segmentPath(job.key, job.file.kind)}: the local file changed after it was checked`)
}

async function discard(context: SegmentExportContext, job: FileJob, temp: string): Promise<void> {
  await context.journal.append({ type: 'discarded', ...step(job) })
  await removeQuietly(context, temp)
}

/**
 * From the temp name to the final one. The answer of a rename proves nothing (false: failure or an earlier success; no
 * answer: either), so both names are looked at. A final name counts as ours only if length and checksum are.
 */
async function place(context: SegmentExportContext, job: FileJob, temp: string): Promise<void> {
  const { store } = context
  const final = segmentPath(job.key, job.file.kind)
  await context.owner().claim(job.key, job.key.nextOffset)
  const isRenamed = (await store.stat(final)) === undefined && (await store.rename(temp, final))
  const expected = { ...job.file, source: sourceOf(context, job) }
  const match = isRenamed ? await lengthMatch(store, final, job.file.lengthBytes) : await store.matches(final, expected)
  if (match === 'same') {
    await context.journal.append({ type: 'renamed', ...step(job) })
    if (!isRenamed) await removeQuietly(context, temp)
    return
  }
  if (match !== 'missing') {
    await quarantine(context, job)
    return
  }
  if ((await store.stat(temp)) === undefined) {
    context.system.log.warn('a verified upload is gone from the store and is sent again', { temp })
    await discard(context, job, temp)
    return
  }
  // Both names are as before: its directory may have been removed under us.
  await store.makeDirectories(partitionDirectory(job.key.topic, job.key.partition))
}

async function lengthMatch(store: RemoteStore, path: string, lengthBytes: number): Promise<'same' | 'missing' | 'length'> {
  const stat = await store.stat(path)
  if (stat === undefined) return 'missing'
  return stat.kind === 'file' && stat.lengthBytes === lengthBytes ? 'same' : 'length'
}

/** Moves what is not ours out of our name, never deletes it, and tells. */
async function quarantine(context: SegmentExportContext, job: FileJob): Promise<void> {
  const { store, system } = context
  const final = segmentPath(job.key, job.file.kind)
  const aside = quarantinePath(job.key, job.file.kind, system.random.bytes(4).toString('hex'))
  await context.owner().claim(job.key, job.key.nextOffset)
  await store.makeDirectories(quarantineDirectory(job.key))
  if (!(await store.rename(final, aside)) && (await store.stat(final)) !== undefined) {
    throw new AppError('REMOTE_ERROR', `${final} is not ours and can't be moved aside`, { hint: 'look at the file and at the permissions of its folder' })
  }
  system.log.error('a file that is not ours stood under a final name', { path: final, movedTo: aside })
  context.onQuarantined(job.key, aside)
}

async function removeQuietly(context: SegmentExportContext, path: string): Promise<void> {
  try {
    await context.store.remove(path)
  } catch (error) {
    // Debris under `_tmp` is harmless and swept later.
    context.system.log.debug('could not remove a temp file', { path, error: toAppError(error).message })
  }
}

async function removeLocalManifest(context: SegmentExportContext, key: SegmentKey): Promise<void> {
  try {
    await context.system.fs.remove(`${context.directory}/${localManifestName(key)}`)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') context.system.log.debug('could not remove a local manifest', { error: toAppError(error).message })
  }
}
