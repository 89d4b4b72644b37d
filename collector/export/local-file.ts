/**
 * Streaming local files through `System.fs`: pieces of 1 MiB, so that an upload holds a few of them in memory and never
 * a whole segment.
 */
import { errnoOf, AppError } from '../../shared/errors.ts'
import type { FileHandle, FileSystem } from '../../shared/system.ts'
import type { ByteSource } from './remote-store.ts'

export const PIECE_BYTES = 1024 * 1024

/** The first `lengthBytes` bytes of a file; CORRUPT_DATA when it turns out to be shorter. */
export function fileSource(fs: FileSystem, path: string, lengthBytes: number): ByteSource {
  return { lengthBytes, open: () => readRange(fs, path, { offset: 0, length: lengthBytes }) }
}

export async function* readRange(fs: FileSystem, path: string, range: { offset: number; length: number }): AsyncGenerator<Uint8Array> {
  const file = await fs.open(path, 'read')
  try {
    const end = range.offset + range.length
    for (let at = range.offset; at < end; ) {
      const target = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, end - at))
      const count = await file.read(target, { offset: 0, length: target.length, position: at })
      if (count === 0) throw new AppError('CORRUPT_DATA', `${path} ends at ${at}, expected ${end} bytes`)
      at += count
      yield target.subarray(0, count)
    }
  } finally {
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

export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/')
  if (slash < 0) return '.'
  return slash === 0 ? '/' : path.slice(0, slash)
}
