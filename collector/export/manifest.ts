/**
 * The manifest of an exported segment: JSON under `<segment>.manifest.json`, put last. It says what the other files are
 * (length, SHA-256), which offsets and times they cover, and where each stream that wrote into the segment stood at its
 * end. All manifests of a partition together are a backup of the positions: a collector whose disk is gone folds them.
 *
 * Deterministic: made twice from the same segment it has the same bytes, so nothing in it says when it was made.
 */
import * as v from 'valibot'
import { AppError } from '../../shared/errors.ts'
import { segmentFileKinds, type SegmentKey } from './layout.ts'

export const MANIFEST_VERSION = 1
/** A segment of many tiny streams: 256 MiB of batches of one record each. */
export const MANIFEST_BYTES_MAX = 512 * 1024 * 1024

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

const streamSchema = v.object({
  /** Stream id, hex. */
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  /** The `tr` header of its last batch here, base64: end position, tail hash, inode, generation, names. */
  header: v.string(),
  keyPath: v.string(),
  /** Records of the stream up to and with its last batch here, from the stream's beginning. */
  records: count,
  supersedes: v.nullable(count),
  /** Of its first batch and last record in this segment. */
  firstOffset: count,
  lastOffset: count,
})
export type ManifestStream = v.InferOutput<typeof streamSchema>

const fileSchema = v.object({ kind: v.picklist(segmentFileKinds), lengthBytes: count, sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)) })

const manifestSchema = v.object({
  version: v.literal(MANIFEST_VERSION),
  clusterId: v.string(),
  epoch: count,
  topic: v.string(),
  partition: count,
  baseOffset: count,
  nextOffset: count,
  batches: count,
  records: count,
  /** Record timestamps; null in a segment without records. */
  minTimestampMs: v.nullable(v.number()),
  maxTimestampMs: v.nullable(v.number()),
  /** The collector's wall clock at the first and last append. */
  firstAppendMs: v.nullable(count),
  lastAppendMs: v.nullable(count),
  /** All but the manifest itself. */
  files: v.array(fileSchema),
  streams: v.array(streamSchema),
})
export type Manifest = v.InferOutput<typeof manifestSchema>

export function encodeManifest(manifest: Manifest): Buffer {
  return Buffer.from(`${JSON.stringify(manifest)}\n`, 'utf8')
}

/** CORRUPT_DATA for what is no manifest, or another segment's. */
export function parseManifest(bytes: Buffer, key: SegmentKey): Manifest {
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    throw new AppError('CORRUPT_DATA', 'the manifest is not JSON', { cause: error })
  }
  const result = v.safeParse(manifestSchema, value)
  if (!result.success) throw new AppError('CORRUPT_DATA', `the manifest does not fit: ${result.issues[0].message}`)
  const manifest = result.output
  const isOurs =
    manifest.topic === key.topic &&
    manifest.partition === key.partition &&
    manifest.baseOffset === key.baseOffset &&
    manifest.nextOffset === key.nextOffset &&
    manifest.epoch === key.epoch
  if (!isOurs) throw new AppError('CORRUPT_DATA', `the manifest belongs to ${manifest.topic}-${manifest.partition} ${manifest.baseOffset}`)
  return manifest
}
