/**
 * Names of the warehouse tables on the store, and the hours they are sorted by. Like layout.ts: every name is made here
 * and nowhere else, with only [A-Za-z0-9._=-].
 *
 * | path | what |
 * |---|---|
 * | `tables/<topic>/dt=YYYY-MM-DD/hour=HH/<topic>-<partition>-<first20>-<next20>.jsonl.gz` or `.parquet` | rows of one partition in one hour, UTC |
 * | `tables/<topic>/dt=…/hour=HH/_SUCCESS` | the hour is complete |
 * | `_manifest/<topic>/p=<partition>/<step20>.json` | what one step published |
 * | `_manifest/<topic>/p=<partition>/<step20>.plan.json` | a step under way: gone once it is published |
 *
 * `<first20>` and `<next20>` are the offset of the first row and one behind the last. A row stands in one file only, so
 * two files of an hour never have one name; the rows between may stand in files of other hours.
 */
import { AppError } from '../../../shared/errors.ts'
import { checkTopicName } from '../../../shared/wire.ts'
import { TEMP_DIRECTORY } from '../layout.ts'

export const TABLES_DIRECTORY = 'tables'
export const HOUR_MS = 3_600_000
/** 9999-12-31T23: a timestamp from outside may be any number, a folder needs a year of four digits. */
export const HOUR_MAX = Math.floor(Date.UTC(9999, 11, 31, 23) / HOUR_MS)
const TIMESTAMP_MAX_MS = (HOUR_MAX + 1) * HOUR_MS - 1
/** Names end at 255 bytes on HDFS; the folder says the whole topic. */
const TOPIC_IN_NAME_MAX = 180

export const tableFormats = ['jsonl', 'parquet'] as const
export type TableFormat = (typeof tableFormats)[number]

const extensions: Readonly<Record<TableFormat, string>> = { jsonl: 'jsonl.gz', parquet: 'parquet' }

export interface TableFileKey {
  readonly topic: string
  readonly partition: number
  /** Hours since 1970, UTC. */
  readonly hour: number
  readonly firstOffset: number
  readonly nextOffset: number
  readonly format: TableFormat
}

/** Into the years that folders have: 1970 to 9999. */
export function clampTimestamp(timestampMs: number): number {
  return Math.min(Math.max(timestampMs, 0), TIMESTAMP_MAX_MS)
}

/** Of a clamped timestamp. */
export function hourOf(timestampMs: number): number {
  return Math.floor(timestampMs / HOUR_MS)
}

export function tablesDirectory(topic: string): string {
  return `${TABLES_DIRECTORY}/${checkTopicName(topic)}`
}

export function hourDirectory(topic: string, hour: number): string {
  const iso = new Date(hour * HOUR_MS).toISOString()
  return `${tablesDirectory(topic)}/dt=${iso.slice(0, 10)}/hour=${iso.slice(11, 13)}`
}

/** The hour of `dt=…/hour=…`; undefined for other names. */
export function parseHour(date: string, hour: string): number | undefined {
  const day = /^dt=(\d{4}-\d\d-\d\d)$/.exec(date)?.[1]
  const hours = /^hour=(\d\d)$/.exec(hour)?.[1]
  if (day === undefined || hours === undefined) return undefined
  const startMs = Date.parse(`${day}T${hours}:00:00Z`)
  return Number.isNaN(startMs) ? undefined : startMs / HOUR_MS
}

export function tableFilePath(key: TableFileKey): string {
  const name = `${key.topic.slice(0, TOPIC_IN_NAME_MAX)}-${key.partition}-${twenty(key.firstOffset)}-${twenty(key.nextOffset)}`
  return `${hourDirectory(key.topic, key.hour)}/${name}.${extensions[key.format]}`
}

export function markerPath(topic: string, hour: number): string {
  return `${hourDirectory(topic, hour)}/_SUCCESS`
}

export function manifestDirectory(at: { topic: string; partition: number }): string {
  return `_manifest/${checkTopicName(at.topic)}/p=${at.partition}`
}

export function stepManifestPath(at: { topic: string; partition: number }, step: number): string {
  return `${manifestDirectory(at)}/${twenty(step)}.json`
}

export function stepPlanPath(at: { topic: string; partition: number }, step: number): string {
  return `${manifestDirectory(at)}/${twenty(step)}.plan.json`
}

/** The step that a name in the manifest folder tells of. */
export function parseStepName(name: string): { readonly step: number; readonly isPlan: boolean } | undefined {
  const [, step, plan] = /^(\d{20})(\.plan)?\.json$/.exec(name) ?? []
  return step === undefined ? undefined : { step: Number(step), isPlan: plan !== undefined }
}

/** Fresh for each attempt; swept like every temp file. */
export function tableTempPath(nonce: string): string {
  return `${TEMP_DIRECTORY}/table-${nonce}`
}

export function quarantinedTablePath(path: string, nonce: string): { readonly directory: string; readonly path: string } {
  const topic = path.split('/')[1]
  const name = path.split('/').at(-1)
  if (topic === undefined || name === undefined) throw new AppError('INTERNAL', `${path} is no name of a table`)
  const directory = `_quarantine/${checkTopicName(topic)}/tables`
  return { directory, path: `${directory}/${name}.${nonce}` }
}

function twenty(value: number): string {
  return String(value).padStart(20, '0')
}
