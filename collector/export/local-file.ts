/**
 * Streaming local files through `System.fs`: pieces of 1 MiB, so that an upload holds a few of them in memory and never
 * a whole segment.
 */
import { errnoOf, AppError } from '../../shared/errors.ts'
import { parentOf } from '../../shared/files.ts'
import type { FileHandle, FileSystem } from '../../shared/system.ts'
import type { ByteSource } from './remote-store.ts'

export const PIECE_BYTES = 1024 * 1024
/** Four that readers may hold, and one that is read ahead. */
const PEEK_BUFFERS = 5

/** The first `lengthBytes` bytes of a file; CORRUPT_DATA when it turns out to be shorter. */
export function fileSource(fs: FileSystem, path: string, lengthBytes: number): ByteSource {
  const range = { offset: 0, length: lengthBytes }
  return { lengthBytes, open: () => readRange(fs, path, range), peek: () => peekRange(fs, path, range) }
}

/** As `readRange`, but each piece is overwritten when the fourth after it is asked for: fresh memory for each costs more than the read. */
export function peekRange(fs: FileSystem, path: string, range: { offset: number; length: number }): AsyncGenerator<Uint8Array> {
  const buffers = Array.from({ length: PEEK_BUFFERS }, () => Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, range.length)))
  let turn = 0
  return readPieces(fs, { path, ...range }, (lengthBytes) => {
    turn = (turn + 1) % buffers.length
    return (buffers[turn] ?? Buffer.allocUnsafeSlow(lengthBytes)).subarray(0, lengthBytes)
  })
}

/** The reader owns the pieces. CORRUPT_DATA when the file is shorter. */
export function readRange(fs: FileSystem, path: string, range: { offset: number; length: number }): AsyncGenerator<Uint8Array> {
  return readPieces(fs, { path, ...range }, (lengthBytes) => Buffer.allocUnsafeSlow(lengthBytes))
}

/** While one piece is hashed or sent, the disk gives the next. */
async function* readPieces(fs: FileSystem, { path, offset, length }: { path: string; offset: number; length: number }, take: (lengthBytes: number) => Buffer): AsyncGenerator<Uint8Array> {
  const end = offset + length
  if (offset >= end) return
  const file = await fs.open(path, 'read')
  const readAt = async (at: number): Promise<Buffer> => {
    const target = take(Math.min(PIECE_BYTES, end - at))
    const count = await file.read(target, { offset: 0, length: target.length, position: at })
    if (count === 0) throw new AppError('CORRUPT_DATA', `${path} ends at ${at}, expected ${end} bytes`)
    return target.subarray(0, count)
  }
  // Settled, not awaited: an error that comes while the reader is busy waits for its turn.
  let reading = Promise.allSettled([readAt(offset)])
  try {
    for (let at = offset; at < end; ) {
      const [read] = await reading
      if (read.status === 'rejected') throw read.reason
      at += read.value.length
      if (at < end) reading = Promise.allSettled([readAt(at)])
      yield read.value
    }
  } finally {
    // A reader that stopped early leaves a read under way.
    await reading
    await file.close()
  }
}

/** Writes all of it; a short write without an error is a full disk. */
export async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  const count = await file.write([bytes], position)
  if (count !== bytes.length) throw new AppError('DISK_FULL', `wrote ${count} of ${bytes.length} bytes`)
}

/** Makes a directory and its missing parents, each durable in its parent. */
export async function ensureDirectory(fs: FileSystem, path: string): Promise<void> {
  const found = await fs.stat(path, { followSymlinks: true })
  const parent = parentOf(path)
  if (found?.kind === 'directory') {
    // Perhaps of a process that was killed before it synced the name.
    if (parent !== path) await fs.syncDirectory(parent)
    return
  }
  if (found !== undefined) throw new AppError('CONFLICT', `${path} is not a directory`)
  if (parent !== path) await ensureDirectory(fs, parent)
  try {
    await fs.makeDirectory(path)
  } catch (error) {
    // Two uploads to one partition may make its directory at the same moment.
    if (errnoOf(error) !== 'EEXIST') throw error
  }
  await fs.syncDirectory(parent)
}
