/**
 * `streams/<n>.snapshot`: the fold so far. A cache for what the log still holds, and the truth for streams whose last
 * batch retention has dropped. Written beside the old one and renamed; the two newest are kept. Big-endian:
 *
 * | bytes | field |
 * |---|---|
 * | 4 | `TRSN` |
 * | 4 | version = 1 |
 * | 4 | number of partitions, then each: topic (u16 length + UTF-8), u32 partition, u64 next offset: all below is folded in |
 * | 4 | number of streams, then each as below |
 * | 4 | CRC-32C of all before |
 *
 * A stream: topic (u16 length + UTF-8), u32 partition, key path (u16 length + UTF-8), u64 record count, u64 first
 * offset, u64 last offset, u64 last append ms, u8 flags (bit 0 superseded, bit 1 open), u16 length + the `tr` header of
 * its newest batch, whose end and tail hash are the stream's position.
 */
import { ByteReader, ByteWriter } from '../../shared/bytes.ts'
import { crc32c } from '../../shared/crc32c.ts'
import { AppError } from '../../shared/errors.ts'
import { decodeSourceHeader, encodeSourceHeader } from '../../shared/source-header.ts'
import type { FileSystem } from '../../shared/system.ts'
import { toOffset, type Offset } from '../../shared/types.ts'
import { readWholeFile, removeIfThere, replaceFile } from './disk.ts'
import { parseSnapshotName, snapshotName, UNFINISHED_SUFFIX } from './filenames.ts'
import type { StreamState } from './topic-log.ts'

const MAGIC = Buffer.from('TRSN', 'latin1')
const VERSION = 1
const FLAG_SUPERSEDED = 1
const FLAG_OPEN = 2
const KEPT = 2
/** Above a million streams with long paths. */
const SNAPSHOT_BYTES_MAX = 2 ** 31 - 1
/** Streams per write: between two the event loop gets its turn. */
const STREAMS_PER_PIECE = 1000

export interface FoldedPartition {
  readonly topic: string
  readonly partition: number
  /** Everything below is folded in. */
  readonly nextOffset: Offset
}

export interface Snapshot {
  readonly partitions: readonly FoldedPartition[]
  readonly streams: readonly StreamState[]
}

export interface NumberedSnapshot extends Snapshot {
  readonly number: number
}

/** Durable on return. Older ones than the last two are removed. */
export async function writeSnapshot(fs: FileSystem, directory: string, snapshot: NumberedSnapshot): Promise<void> {
  await replaceFile(fs, { directory, name: snapshotName(snapshot.number), pieces: encodePieces(snapshot) })
  const numbers = await snapshotNumbers(fs, directory)
  const old = numbers.filter((number) => number <= snapshot.number).slice(KEPT)
  for (const number of old) await removeIfThere(fs, `${directory}/${snapshotName(number)}`)
  if (old.length > 0) await fs.syncDirectory(directory)
}

/** The valid ones, newest first, durable; what does not decode is named, and left where it is. */
export async function loadSnapshots(fs: FileSystem, directory: string): Promise<{ snapshots: NumberedSnapshot[]; bad: string[]; lastNumber: number }> {
  const snapshots: NumberedSnapshot[] = []
  const bad: string[] = []
  const numbers = await snapshotNumbers(fs, directory)
  // A killed process may have left a name that only the page cache knows: retention goes by what these hold.
  await fs.syncDirectory(directory)
  for (const number of numbers) {
    const name = snapshotName(number)
    try {
      const bytes = await readWholeFile(fs, `${directory}/${name}`, SNAPSHOT_BYTES_MAX)
      if (bytes !== undefined) snapshots.push({ number, ...decodeSnapshot(bytes) })
    } catch (error) {
      if (!(error instanceof AppError)) throw error
      bad.push(`${name}: ${error.message}`)
    }
  }
  return { snapshots, bad, lastNumber: numbers[0] ?? 0 }
}

async function snapshotNumbers(fs: FileSystem, directory: string): Promise<number[]> {
  const numbers: number[] = []
  for (const { name } of await fs.list(directory)) {
    const number = parseSnapshotName(name)
    if (number !== undefined) numbers.push(number)
    if (name.endsWith(UNFINISHED_SUFFIX)) await removeIfThere(fs, `${directory}/${name}`)
  }
  return numbers.sort((a, b) => b - a)
}

function* encodePieces(snapshot: Snapshot): Iterable<Buffer> {
  let crc = 0
  const counted = (piece: Buffer): Buffer => {
    crc = crc32c(piece, crc)
    return piece
  }
  yield counted(encodeHead(snapshot))
  for (let at = 0; at < snapshot.streams.length; at += STREAMS_PER_PIECE) {
    yield counted(Buffer.concat(snapshot.streams.slice(at, at + STREAMS_PER_PIECE).map(encodeStream)))
  }
  yield new ByteWriter(4).u32(crc).buffer
}

function encodeHead({ partitions, streams }: Snapshot): Buffer {
  const size = 16 + partitions.reduce((sum, { topic }) => sum + 2 + Buffer.byteLength(topic) + 12, 0)
  const writer = new ByteWriter(size).bytes(MAGIC).u32(VERSION).u32(partitions.length)
  for (const { topic, partition, nextOffset } of partitions) writer.string16(topic).u32(partition).safe64(nextOffset)
  return writer.u32(streams.length).buffer
}

function encodeStream(state: StreamState): Buffer {
  const source = encodeSourceHeader(state.source)
  const writer = new ByteWriter(2 + Buffer.byteLength(state.topic) + 4 + 2 + Buffer.byteLength(state.keyPath) + 32 + 1 + 2 + source.length)
  writer.string16(state.topic).u32(state.partition).string16(state.keyPath)
  writer.safe64(state.recordCount).safe64(state.firstOffset).safe64(state.lastOffset).safe64(Math.max(0, Math.floor(state.lastAppendMs)))
  writer.u8((state.isSuperseded ? FLAG_SUPERSEDED : 0) | (state.isOpen ? FLAG_OPEN : 0))
  return writer.u16(source.length).bytes(source).buffer
}

/** Throws CORRUPT_DATA or CORRUPT_MESSAGE. */
export function decodeSnapshot(bytes: Buffer): Snapshot {
  if (bytes.length < 20 || !bytes.subarray(0, 4).equals(MAGIC)) throw corrupt('not a snapshot')
  const end = bytes.length - 4
  if (crc32c(bytes.subarray(0, end)) !== bytes.readUInt32BE(end)) throw corrupt('CRC-32C does not match')
  const reader = new ByteReader(bytes, 4, end)
  const version = reader.u32()
  if (version !== VERSION) throw corrupt(`snapshot version ${version}`)
  const partitions: FoldedPartition[] = []
  for (let count = reader.u32(); count > 0; count -= 1) {
    partitions.push({ topic: reader.string16(), partition: reader.u32(), nextOffset: toOffset(reader.safe64()) })
  }
  const streams: StreamState[] = []
  for (let count = reader.u32(); count > 0; count -= 1) streams.push(decodeStream(reader))
  if (reader.remaining !== 0) throw corrupt(`${reader.remaining} bytes too many`)
  return { partitions, streams }
}

function decodeStream(reader: ByteReader): StreamState {
  const topic = reader.string16()
  const partition = reader.u32()
  const keyPath = reader.string16()
  const recordCount = reader.safe64()
  const firstOffset = toOffset(reader.safe64())
  const lastOffset = toOffset(reader.safe64())
  const lastAppendMs = reader.safe64()
  const flags = reader.u8()
  const source = decodeSourceHeader(reader.bytes(reader.u16()))
  return {
    source, topic, partition, keyPath, position: source.end, tailHash: source.tailHashEnd, recordCount, firstOffset, lastOffset, lastAppendMs,
    isSuperseded: (flags & FLAG_SUPERSEDED) !== 0, isOpen: (flags & FLAG_OPEN) !== 0,
  }
}

function corrupt(message: string): AppError {
  return new AppError('CORRUPT_DATA', message)
}
