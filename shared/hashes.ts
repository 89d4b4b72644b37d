/**
 * The hashes that tie stored bytes to their source: tail hash, head hash, stream id, partition hash. All but murmur2
 * are the first 16 bytes of SHA-256.
 */
import { createHash, hash } from 'node:crypto'
import { HASH_BYTES, HEAD_BYTES_MAX, TAIL_BYTES_MAX } from './source-header.ts'

/** What stands for "nothing before": the tail hash at position 0. */
export const NO_TAIL_HASH: Buffer = Buffer.alloc(HASH_BYTES)

/**
 * A hash in 32 lower-case hex digits, as the wire has it, for where hashes are kept by the thousand: 48 bytes, while a
 * Buffer of 16 costs 400, most of them outside of the heap.
 */
export type HashText = string

export const NO_TAIL_HASH_TEXT: HashText = hashText(NO_TAIL_HASH)

export function hashText(hash: Buffer): HashText {
  return hash.toString('hex')
}

export function hashBytes(text: HashText): Buffer {
  return Buffer.from(text, 'hex')
}

export function sha256Prefix(...pieces: readonly Uint8Array[]): Buffer {
  const [only] = pieces
  // In one call: a Hash object keeps its native memory until V8 collects it, and costs more than a short hash itself.
  if (only !== undefined && pieces.length === 1) return hash('sha256', only, 'buffer').subarray(0, HASH_BYTES)
  const joined = createHash('sha256')
  for (const piece of pieces) joined.update(piece)
  return joined.digest().subarray(0, HASH_BYTES)
}

/** Tail hash at the position behind `tail`, which holds the last min(64 KiB, position) source bytes before it. */
export function tailHash(tail: Uint8Array): Buffer {
  if (tail.length === 0) return NO_TAIL_HASH
  return sha256Prefix(tail.length > TAIL_BYTES_MAX ? tail.subarray(tail.length - TAIL_BYTES_MAX) : tail)
}

/** Head hash of a file whose first bytes are `head`; only the first 1 KiB counts. */
export function headHash(head: Uint8Array): Buffer {
  return sha256Prefix(head.length > HEAD_BYTES_MAX ? head.subarray(0, HEAD_BYTES_MAX) : head)
}

export interface StreamKey {
  readonly agentId: string
  readonly topic: string
  readonly inode: bigint
  readonly birthtimeNs: bigint
  readonly generation: number
}

/** Deterministic on purpose: two attempts to begin the same stream meet as duplicates, not as two streams. */
export function streamId(key: StreamKey): Buffer {
  const texts = [key.agentId, key.topic].flatMap((field) => {
    const bytes = Buffer.from(field, 'utf8')
    return [lengthPrefix(bytes.length), bytes]
  })
  const numbers = Buffer.alloc(3 * 12)
  let at = 0
  for (const value of [key.inode, key.birthtimeNs, BigInt(key.generation)]) {
    at = numbers.writeUInt32BE(8, at)
    at = numbers.writeBigUInt64BE(BigInt.asUintN(64, value), at)
  }
  return sha256Prefix(Buffer.concat([...texts, numbers]))
}

function lengthPrefix(length: number): Buffer {
  const prefix = Buffer.alloc(4)
  prefix.writeUInt32BE(length)
  return prefix
}

/** Kafka's Java client murmur2, as a signed 32-bit number. */
export function murmur2(bytes: Uint8Array): number {
  const m = 0x5bd1e995
  let h = 0x9747b28c ^ bytes.length
  const whole = bytes.length & ~3
  for (let at = 0; at < whole; at += 4) {
    let k = byteAt(bytes, at) | (byteAt(bytes, at + 1) << 8) | (byteAt(bytes, at + 2) << 16) | (byteAt(bytes, at + 3) << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    h = Math.imul(h, m) ^ Math.imul(k, m)
  }
  const rest = bytes.length - whole
  if (rest === 3) h ^= byteAt(bytes, whole + 2) << 16
  if (rest >= 2) h ^= byteAt(bytes, whole + 1) << 8
  if (rest >= 1) h = Math.imul(h ^ byteAt(bytes, whole), m)
  h = Math.imul(h ^ (h >>> 13), m)
  return h ^ (h >>> 15)
}

/** The partition that Kafka's Java client would choose for this key. */
export function partitionOf(key: Uint8Array, partitionCount: number): number {
  return (murmur2(key) & 0x7fffffff) % partitionCount
}

function byteAt(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0
}
