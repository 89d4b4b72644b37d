/**
 * One step of a partition's tables: planned → encoded (files on the local disk) → each file placed on the store →
 * manifest placed → recorded. Planned, encoded and recorded are synced in the state file; a process that dies anywhere
 * goes on from the last one, and what it does again gives the same names and the same bytes (table-encoder.ts).
 *
 * What each crash leaves:
 * - before `encoded`: local files of no state. They are made anew.
 * - between two files: some final files, no manifest. Readers may see them: their rows stand nowhere else. The next run
 *   finds them whole and places the others.
 * - behind the manifest: all is there. The run finds that out file by file and records it.
 */
import { createHash, type Hash } from 'node:crypto'
import { AppError, errnoOf, toAppError } from '../../../shared/errors.ts'
import type { FileHandle, FileSystem } from '../../../shared/system.ts'
import { checkTopicName } from '../../../shared/wire.ts'
import type { ExportedSegment } from '../journal-format.ts'
import { fileSource, writeAll } from '../local-file.ts'
import { bufferSource } from '../remote-store.ts'
import type { EncoderHost } from './encoder-host.ts'
import { placeFile, type PlaceContext } from './place-file.ts'
import { lastAppendMs, readSegmentBatches, type SegmentReaderContext } from './segment-batches.ts'
import type { EncodedFile, EncodeOutput } from './table-encoder.ts'
import { stepManifestPath, stepPlanPath, tableFilePath } from './table-layout.ts'
import { segmentsBetween } from './table-plan.ts'
import { encodeJson, stateAfter, type EncodedStep, type StepManifest, type TableFile, type TablePartition, type TablePlan, type TableState, type TableStateFile } from './table-state.ts'

export interface TableStepContext extends PlaceContext, SegmentReaderContext {
  /** `<data>/export/tables`, which exists. */
  readonly directory: string
  readonly clusterId: string
  readonly encoder: EncoderHost
  readonly exported: (topic: string, partition: number) => ReadonlyMap<number, ExportedSegment>
}

export interface StepJob {
  readonly at: TablePartition
  readonly stateFile: TableStateFile
  /** Told of each state once it is durable. */
  readonly onState: (state: TableState) => void
  /** Before files are placed in these hours. */
  readonly onHours: (hours: readonly number[]) => Promise<void>
}

/** Carries `state.plan` out. Answers what was published. */
export async function runStep(context: TableStepContext, job: StepJob, state: TableState): Promise<EncodedStep> {
  const { plan } = state
  if (plan === null) throw new AppError('INTERNAL', 'a step begins with a plan')
  const { at } = job
  await placeBytes(context, at, { path: stepPlanPath(at, state.step), bytes: encodeJson({ ...plan, encoded: null }) })
  const encoded = await encodedStep(context, job, state, plan)
  await job.onHours(encoded.files.map(({ hour }) => hour))
  for (const [index, file] of encoded.files.entries()) {
    const source = fileSource(context.fs, spoolPath(context, at, index), file.lengthBytes)
    await placeFile(context, { at, path: pathOf(at, plan, file), source, sha256: file.sha256 }).catch((error: unknown) => forgetSpool(job, state, plan, error))
  }
  await placeBytes(context, at, { path: stepManifestPath(at, state.step), bytes: encodeJson(manifestOf(context, at, { state, plan, encoded })) })
  await save(job, stateAfter(state, plan, encoded))
  await clearSpool(context, at)
  await context.store.remove(stepPlanPath(at, state.step)).catch((error: unknown) => {
    // A plan of a step whose manifest is there is never looked at.
    context.log.debug('could not remove a table plan', { error: toAppError(error).message })
  })
  return encoded
}

async function save(job: StepJob, state: TableState): Promise<void> {
  await job.stateFile.save(state)
  job.onState(state)
}

/** Plans a step durably; `runStep` carries it out. */
export async function savePlan(job: StepJob, state: TableState, plan: TablePlan): Promise<void> {
  await save(job, { ...state, plan })
}

/** The local copy rotted or was removed: the next run makes it anew. */
async function forgetSpool(job: StepJob, state: TableState, plan: TablePlan, error: unknown): Promise<never> {
  const isGone = toAppError(error).code === 'CORRUPT_DATA' || errnoOf(error) === 'ENOENT'
  if (isGone) await save(job, { ...state, plan: { ...plan, encoded: null } })
  throw isGone ? new AppError('REMOTE_ERROR', `a table file is made again: ${toAppError(error).message}`, { cause: error }) : error
}

async function placeBytes(context: TableStepContext, at: TablePartition, file: { path: string; bytes: Buffer }): Promise<void> {
  await placeFile(context, { at, path: file.path, source: bufferSource(file.bytes), sha256: createHash('sha256').update(file.bytes).digest('hex') })
}

function pathOf(at: TablePartition, plan: TablePlan, file: TableFile): string {
  return tableFilePath({ ...at, hour: file.hour, firstOffset: file.firstOffset, nextOffset: file.nextOffset, format: plan.format })
}

function manifestOf(context: TableStepContext, at: TablePartition, step: { state: TableState; plan: TablePlan; encoded: EncodedStep }): StepManifest {
  const { state, plan, encoded } = step
  const { floorOffset, scannedOffset, hourLimit } = stateAfter(state, plan, encoded)
  return {
    version: 1,
    clusterId: context.clusterId,
    topic: at.topic,
    partition: at.partition,
    step: state.step,
    format: plan.format,
    after: { floorOffset, scannedOffset, hourLimit },
    unreadable: encoded.unreadable,
    files: encoded.files.map((file) => ({ path: pathOf(at, plan, file), ...file })),
  }
}

async function encodedStep(context: TableStepContext, job: StepJob, state: TableState, plan: TablePlan): Promise<EncodedStep> {
  if (plan.encoded !== null && (await isSpooled(context, job.at, plan.encoded))) return plan.encoded
  await clearSpool(context, job.at)
  const spool = new Spool(context, job.at)
  try {
    const encoded = await encode(context, spool, { at: job.at, state, plan })
    await save(job, { ...state, plan: { ...plan, encoded } })
    return encoded
  } finally {
    await spool.close()
  }
}

async function encode(context: TableStepContext, spool: Spool, step: { at: TablePartition; state: TableState; plan: TablePlan }): Promise<EncodedStep> {
  const { at, state, plan } = step
  const { topic, partition } = at
  const encoding = context.encoder.begin({
    topic, partition, format: plan.format, scannedOffset: state.scannedOffset, hourLimit: state.hourLimit, dueHourLimit: plan.isWhole ? null : plan.hourLimit,
  })
  let floorOffset: number | undefined
  let unreadable = 0
  const take = async (output: EncodeOutput): Promise<number> => {
    unreadable += output.unreadable
    await spool.take(output)
    return output.heldBack
  }
  for (const segment of segmentsBetween(context.exported(topic, partition), { fromOffset: state.floorOffset, toOffset: plan.toOffset })) {
    const appendedMs = await lastAppendMs(context, segment)
    let heldBack = 0
    for await (const batches of readSegmentBatches(context, segment)) {
      if (context.signal.aborted) throw new AppError('ABORTED', 'the export was stopped')
      heldBack += await take(await encoding.add({ batches, lastAppendMs: appendedMs }))
    }
    // The first segment with rows for a later step is where that step begins to read.
    if (heldBack > 0) floorOffset ??= segment.key.baseOffset
  }
  await take(await encoding.finish())
  const isLate = (hour: number): boolean => hour < state.hourLimit
  const files = spool.files.map((file) => ({ ...file, isLate: isLate(file.hour) }))
  return { floorOffset: floorOffset ?? plan.toOffset, unreadable, files }
}

async function isSpooled(context: TableStepContext, at: TablePartition, encoded: EncodedStep): Promise<boolean> {
  for (const [index, { lengthBytes }] of encoded.files.entries()) {
    if ((await context.fs.stat(spoolPath(context, at, index)))?.size !== lengthBytes) return false
  }
  return true
}

function spoolName(at: TablePartition): string {
  return `spool-${checkTopicName(at.topic)}-${at.partition}`
}

function spoolPath(context: TableStepContext, at: TablePartition, index: number): string {
  return `${context.directory}/${spoolName(at)}-${index}`
}

async function clearSpool(context: TableStepContext, at: TablePartition): Promise<void> {
  const prefix = `${spoolName(at)}-`
  for (const { name } of await context.fs.list(context.directory)) {
    if (name.startsWith(prefix) && /^\d+$/.test(name.slice(prefix.length))) await context.fs.remove(`${context.directory}/${name}`)
  }
}

interface Spooled {
  readonly handle: FileHandle
  readonly hash: Hash
  lengthBytes: number
}

/** The files of a step while they grow. Not synced: what a power cut leaves of them is found by the hash, and made anew. */
class Spool {
  private readonly context: { readonly fs: FileSystem } & TableStepContext
  private readonly at: TablePartition
  private readonly open = new Map<number, Spooled>()
  private readonly done: (Omit<TableFile, 'isLate'> | undefined)[] = []

  constructor(context: TableStepContext, at: TablePartition) {
    this.context = context
    this.at = at
  }

  /** In order of their index, which is the number in their local name. */
  get files(): readonly Omit<TableFile, 'isLate'>[] {
    return this.done.filter((file) => file !== undefined)
  }

  async take({ pieces, finished }: EncodeOutput): Promise<void> {
    for (const { index, bytes } of pieces) {
      const file = this.open.get(index) ?? (await this.begin(index))
      await writeAll(file.handle, bytes, file.lengthBytes)
      file.hash.update(bytes)
      file.lengthBytes += bytes.length
    }
    for (const file of finished) await this.finish(file)
  }

  private async begin(index: number): Promise<Spooled> {
    const handle = await this.context.fs.open(spoolPath(this.context, this.at, index), 'truncateWrite')
    const file = { handle, hash: createHash('sha256'), lengthBytes: 0 }
    this.open.set(index, file)
    return file
  }

  private async finish({ index, hour, firstOffset, nextOffset, rows }: EncodedFile): Promise<void> {
    const file = this.open.get(index)
    if (file === undefined) throw new AppError('INTERNAL', `table file ${index} ends and never began`)
    this.open.delete(index)
    await file.handle.close()
    this.done[index] = { hour, firstOffset, nextOffset, rows, lengthBytes: file.lengthBytes, sha256: file.hash.digest('hex') }
  }

  async close(): Promise<void> {
    for (const { handle } of this.open.values()) await handle.close()
    this.open.clear()
  }
}
