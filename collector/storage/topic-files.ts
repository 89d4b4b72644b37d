/**
 * `topics/<topic>.json`: what a topic says about itself (the rest follows the collector's defaults), or, once it was
 * deleted, its tombstone with the offsets at which a topic of the same name has to go on. Replaced as a whole, so a
 * crash leaves the old or the new one.
 *
 * A file that can't be read is reported and never a reason to delete data: the topic's folders say enough to serve it.
 */
import * as v from 'valibot'
import { AppError } from '../../shared/errors.ts'
import type { FileSystem } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { readWholeFile, replaceFile } from './disk.ts'
import { parseTopicFileName, topicFileName } from './filenames.ts'
import type { TopicOverrides } from './topic-config.ts'

const FILE_BYTES_MAX = 1024 * 1024
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

const fileSchema = v.object({
  version: v.literal(1),
  topic: v.string(),
  state: v.picklist(['live', 'deleted']),
  partitions: v.pipe(count, v.minValue(1)),
  /** null = unlimited; absent = the collector's default. */
  overrides: v.object({
    segmentBytes: v.optional(count),
    segmentAgeMs: v.optional(count),
    retentionBytes: v.optional(v.nullable(count)),
    retentionAgeMs: v.optional(v.nullable(count)),
  }),
  /** By partition: where a new log of this topic begins. Empty = 0 everywhere. */
  startOffsets: v.array(count),
})

export interface TopicFile {
  readonly topic: string
  readonly state: 'live' | 'deleted'
  readonly partitions: number
  readonly overrides: TopicOverrides
  readonly startOffsets: readonly Offset[]
}

/** Durable on return. */
export async function writeTopicFile(fs: FileSystem, directory: string, file: TopicFile): Promise<void> {
  await replaceFile(fs, { directory, name: topicFileName(file.topic), pieces: [encodeTopicFile(file)] })
}

export function encodeTopicFile(file: TopicFile): Buffer {
  const { overrides } = file
  const json: v.InferOutput<typeof fileSchema> = {
    version: 1,
    topic: file.topic,
    state: file.state,
    partitions: file.partitions,
    overrides: {
      ...(overrides.segmentBytes === undefined ? {} : { segmentBytes: overrides.segmentBytes }),
      ...(overrides.segmentAgeMs === undefined ? {} : { segmentAgeMs: overrides.segmentAgeMs }),
      ...('retentionBytes' in overrides ? { retentionBytes: overrides.retentionBytes ?? null } : {}),
      ...('retentionAgeMs' in overrides ? { retentionAgeMs: overrides.retentionAgeMs ?? null } : {}),
    },
    startOffsets: [...file.startOffsets],
  }
  return Buffer.from(`${JSON.stringify(json, undefined, 2)}\n`)
}

export async function loadTopicFiles(fs: FileSystem, directory: string): Promise<{ files: TopicFile[]; bad: { topic: string; reason: string }[] }> {
  const files: TopicFile[] = []
  const bad: { topic: string; reason: string }[] = []
  for (const { name } of await fs.list(directory)) {
    const topic = parseTopicFileName(name)
    if (topic === undefined) continue
    try {
      const bytes = await readWholeFile(fs, `${directory}/${name}`, FILE_BYTES_MAX)
      if (bytes !== undefined) files.push(parseTopicFile(topic, bytes))
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      bad.push({ topic, reason: `${name}: ${error.message}` })
    }
  }
  return { files: files.sort((a, b) => (a.topic < b.topic ? -1 : 1)), bad }
}

function parseTopicFile(topic: string, bytes: Buffer): TopicFile {
  let json: unknown
  try {
    json = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new AppError('CORRUPT_DATA', 'not JSON', { cause: error })
  }
  const result = v.safeParse(fileSchema, json)
  if (!result.success) throw new AppError('CORRUPT_DATA', result.issues[0].message)
  if (result.output.topic !== topic) throw new AppError('CORRUPT_DATA', `holds topic ${result.output.topic}`)
  const { overrides, partitions, state, startOffsets } = result.output
  return {
    topic,
    state,
    partitions,
    overrides: {
      ...(overrides.segmentBytes === undefined ? {} : { segmentBytes: overrides.segmentBytes }),
      ...(overrides.segmentAgeMs === undefined ? {} : { segmentAgeMs: overrides.segmentAgeMs }),
      ...(overrides.retentionBytes === undefined ? {} : { retentionBytes: overrides.retentionBytes ?? undefined }),
      ...(overrides.retentionAgeMs === undefined ? {} : { retentionAgeMs: overrides.retentionAgeMs ?? undefined }),
    },
    startOffsets: startOffsets.map(toOffset),
  }
}
