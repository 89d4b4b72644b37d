/**
 * The checkpoint of a replay: where it stands, so that it can go on after a crash. JSON, replaced atomically and synced.
 * Written only after the sink took what it counts as done.
 */
import { createHash } from 'node:crypto'
import * as v from 'valibot'
import type { FileSystem } from '../../shared/system.ts'
import { parseJson } from '../../shared/wire.ts'
import { usageError } from './exit-codes.ts'
import { guard } from './file-target.ts'
import { readWholeFile, replaceFile } from './local-file.ts'

const BYTES_MAX = 16 * 1024 * 1024
const offset = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const vector = v.record(v.string(), offset)

const checkpointSchema = v.object({
  version: v.literal(1),
  /** Hash of what was asked for: another question can't go on here. */
  spec: v.string(),
  /** Random for each new replay: part of its idempotency keys, so that a second replay is not taken for a repeat. */
  run: v.string(),
  /** Times are fixed when the replay begins; `-S 1h` means the same hour after a resume. */
  sinceMs: v.nullable(v.number()),
  untilMs: v.nullable(v.number()),
  next: vector,
  /** Pinned at the start. */
  ends: vector,
  records: offset,
  /** Bytes of the output file that count. */
  fileBytes: v.optional(offset),
  /** A group that was on its way to the topic: it may be there already, so it is sent again under the same key. */
  pending: v.optional(v.object({ key: v.string(), end: vector })),
})
export type ReplayCheckpoint = v.InferOutput<typeof checkpointSchema>

export function specHash(parts: readonly unknown[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32)
}

/** undefined when there is none yet. Throws a usage error when it belongs to another replay. */
export async function loadCheckpoint(fs: FileSystem, path: string, spec: string): Promise<ReplayCheckpoint | undefined> {
  if ((await fs.stat(path, { followSymlinks: true })) === undefined) return undefined
  const text = (await readWholeFile(fs, path, BYTES_MAX)).toString('utf8')
  const checkpoint = parseJson(checkpointSchema, text, `checkpoint ${path}`)
  if (checkpoint.spec === spec) return checkpoint
  throw usageError(`${path} is the checkpoint of another replay`, 'give the same topics, filters and sink as before, or another file')
}

export async function saveCheckpoint(fs: FileSystem, path: string, checkpoint: ReplayCheckpoint): Promise<void> {
  await guard(path, () => replaceFile(fs, path, Buffer.from(`${JSON.stringify(checkpoint)}\n`)))
}
