/**
 * How far a partition's tables are: one small file `<data>/export/tables/<topic>-<partition>.json`, replaced as a whole
 * and synced at each change. It is to the tables what the journal is to the raw export.
 *
 * The store holds the same in its step manifests. Where the file is gone or damaged (somebody moved the export folder
 * aside), the newest manifest and the plan of a step under way say how to go on, so that no row is published twice.
 */
import * as v from 'valibot'
import { AppError, errnoOf, toAppError } from '../../../shared/errors.ts'
import { readWholeFile, writeFileDurably } from '../../../shared/files.ts'
import type { FileSystem, Log } from '../../../shared/system.ts'
import { checkTopicName } from '../../../shared/wire.ts'
import { readSmall, type RemoteStore } from '../remote-store.ts'
import { manifestDirectory, parseStepName, stepManifestPath, stepPlanPath, tableFormats } from './table-layout.ts'

const STATE_BYTES_MAX = 64 * 1024 * 1024
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))

const standingEntries = {
  /** Steps that were published; the number of the next one. */
  step: count,
  floorOffset: count,
  scannedOffset: count,
  hourLimit: count,
}

const fileSchema = v.object({
  hour: count,
  firstOffset: count,
  nextOffset: count,
  rows: count,
  lengthBytes: count,
  sha256,
  /** Its hour was complete before. */
  isLate: v.boolean(),
})
export type TableFile = v.InferOutput<typeof fileSchema>

const encodedSchema = v.object({
  /** Where the floor stands after this step. */
  floorOffset: count,
  unreadable: count,
  files: v.array(fileSchema),
})
export type EncodedStep = v.InferOutput<typeof encodedSchema>

const planSchema = v.object({
  toOffset: count,
  hourLimit: count,
  isWhole: v.boolean(),
  format: v.picklist(tableFormats),
  encoded: v.nullable(encodedSchema),
})
export type TablePlan = v.InferOutput<typeof planSchema>

const stateSchema = v.object({ version: v.literal(1), ...standingEntries, plan: v.nullable(planSchema) })
export type TableState = v.InferOutput<typeof stateSchema>
export type Standing = Pick<TableState, 'step' | 'floorOffset' | 'scannedOffset' | 'hourLimit'>

const manifestSchema = v.object({
  version: v.literal(1),
  clusterId: v.string(),
  topic: v.string(),
  partition: count,
  /** Of this step. */
  step: count,
  format: v.picklist(tableFormats),
  /** Where the partition stands behind this step. */
  after: v.object({ floorOffset: count, scannedOffset: count, hourLimit: count }),
  unreadable: count,
  /** Path on the store, and what is in it. */
  files: v.array(v.object({ path: v.string(), ...fileSchema.entries })),
})
export type StepManifest = v.InferOutput<typeof manifestSchema>

export interface TablePartition {
  readonly topic: string
  readonly partition: number
}

export const emptyTableState: TableState = { version: 1, step: 0, floorOffset: 0, scannedOffset: 0, hourLimit: 0, plan: null }

export function encodeJson(value: StepManifest | TablePlan): Buffer {
  return Buffer.from(`${JSON.stringify(value)}\n`, 'utf8')
}

export function stateAfter(state: TableState, plan: TablePlan, encoded: EncodedStep): TableState {
  return { version: 1, step: state.step + 1, floorOffset: encoded.floorOffset, scannedOffset: plan.toOffset, hourLimit: plan.hourLimit, plan: null }
}

export class TableStateFile {
  private readonly fs: FileSystem
  private readonly path: string

  /** `directory`: `<data>/export/tables`, which exists. */
  constructor(fs: FileSystem, directory: string, at: TablePartition) {
    this.fs = fs
    this.path = `${directory}/${checkTopicName(at.topic)}-${at.partition}.json`
  }

  /** undefined where nothing usable is there. */
  async load(log: Log): Promise<TableState | undefined> {
    try {
      const result = v.safeParse(stateSchema, JSON.parse((await readWholeFile(this.fs, this.path, STATE_BYTES_MAX)).toString('utf8')))
      if (result.success) return result.output
      log.error('the state of a table is damaged, the store is asked', { path: this.path, problem: result.issues[0].message })
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined
      if (!(error instanceof SyntaxError)) throw error
      log.error('the state of a table is damaged, the store is asked', { path: this.path, problem: error.message })
    }
    return undefined
  }

  /** Durable on return. */
  async save(state: TableState): Promise<void> {
    try {
      await writeFileDurably(this.fs, this.path, Buffer.from(JSON.stringify(state), 'utf8'))
    } catch (error) {
      if (error instanceof AppError) throw error
      const isFull = errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT'
      throw new AppError(isFull ? 'DISK_FULL' : 'STORAGE_ERROR', `cannot write ${this.path}`, { cause: error })
    }
  }
}

/** Whether the store knows more than this state: a crash fell between the two, or the data folder was set back to an older copy. */
export async function isStoreAhead(store: RemoteStore, at: TablePartition, state: TableState): Promise<boolean> {
  if ((await store.stat(stepManifestPath(at, state.step))) !== undefined) return true
  return state.plan === null && (await store.stat(stepPlanPath(at, state.step))) !== undefined
}

/** From the manifests: where the partition stands, and the step that was under way. */
export async function recoverState(store: RemoteStore, at: TablePartition): Promise<TableState> {
  const names = (await store.list(manifestDirectory(at))).map(({ name }) => parseStepName(name)).filter((name) => name !== undefined)
  const done = names.filter(({ isPlan }) => !isPlan).map(({ step }) => step)
  const last = done.length === 0 ? undefined : done.reduce((max, step) => Math.max(max, step))
  const standing = last === undefined ? emptyTableState : standingAfter(await readParsed(store, stepManifestPath(at, last), manifestSchema))
  if (!names.some(({ step, isPlan }) => isPlan && step === standing.step)) return standing
  return { ...standing, plan: await readParsed(store, stepPlanPath(at, standing.step), planSchema) }
}

function standingAfter({ step, after }: StepManifest): TableState {
  return { version: 1, step: step + 1, ...after, plan: null }
}

async function readParsed<T>(store: RemoteStore, path: string, schema: v.GenericSchema<unknown, T>): Promise<T> {
  const bytes = await readSmall(store, path, STATE_BYTES_MAX)
  try {
    return v.parse(schema, JSON.parse(bytes.toString('utf8')))
  } catch (error) {
    throw new AppError('CORRUPT_DATA', `${path} is no manifest of a table step: ${toAppError(error).message}`, {
      cause: error,
      hint: 'without it rows could be published twice: bring the file back, or the state of the tables in <data>/export/tables',
    })
  }
}
