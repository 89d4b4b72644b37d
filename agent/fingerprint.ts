/**
 * What a file's bytes say about its identity: hash of its head, hash of its tail at a position, both read from an open
 * handle with bounded I/O. Reads only; nothing is remembered here.
 */
import { readFully } from '../shared/files.ts'
import { hashText, headHash, NO_TAIL_HASH_TEXT, tailHash, type HashText } from '../shared/hashes.ts'
import { HEAD_BYTES_MAX, TAIL_BYTES_MAX } from '../shared/source-header.ts'
import type { FileHandle } from '../shared/system.ts'

/** The first bytes of the file, at most 1 KiB. */
export async function readHead(handle: FileHandle): Promise<Buffer> {
  const head = Buffer.alloc(HEAD_BYTES_MAX)
  return head.subarray(0, await readFully(handle, head, 0))
}

function doesHeadMatch(head: Buffer, expected: { headLength: number; headHash: HashText }): boolean {
  if (expected.headLength > head.length) return false
  return hashText(headHash(head.subarray(0, expected.headLength))) === expected.headHash
}

/** undefined when the file is shorter than `position`. `scratch` holds at least 64 KiB. */
export async function readTailHash(handle: FileHandle, position: number, scratch: Buffer): Promise<HashText | undefined> {
  if (position === 0) return NO_TAIL_HASH_TEXT
  const length = Math.min(TAIL_BYTES_MAX, position)
  const count = await readFully(handle, scratch.subarray(0, length), position - length)
  return count < length ? undefined : hashText(tailHash(scratch.subarray(0, length)))
}

/** Whether a stream's position can be adopted for this file: its bytes before the position hash equal. */
export async function canAdopt(
  handle: FileHandle,
  stream: { headLength: number; headHash: HashText; position: number; tailHash: HashText },
  bytes: { head: Buffer; scratch: Buffer },
): Promise<boolean> {
  if (!doesHeadMatch(bytes.head, stream)) return false
  const tail = await readTailHash(handle, stream.position, bytes.scratch)
  return tail === stream.tailHash
}

/**
 * Whether the first `size` bytes of both files look equal: their heads and their last 64 KiB before `size`. For a copy
 * that is just being made, which is a prefix of its original.
 */
export async function isPrefixOf(copy: FileHandle, original: FileHandle, size: number, scratch: Buffer): Promise<boolean> {
  const copyHead = await readHead(copy)
  const originalHead = await readHead(original)
  const headLength = Math.min(copyHead.length, size)
  if (originalHead.length < headLength) return false
  if (!copyHead.subarray(0, headLength).equals(originalHead.subarray(0, headLength))) return false
  const copyTail = await readTailHash(copy, size, scratch)
  const originalTail = await readTailHash(original, size, scratch)
  return copyTail !== undefined && copyTail === originalTail
}
