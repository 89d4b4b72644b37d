/**
 * The few ways in which storage touches files: write everything or say that the disk is full, replace a file so that a
 * crash leaves the old or the new one, read a small file whole. Errors of the platform become AppErrors here.
 */
import { AppError, BugError, errnoOf } from '../../shared/errors.ts'
import { readFully } from '../../shared/files.ts'
import type { FileHandle, FileSystem } from '../../shared/system.ts'
import { UNFINISHED_SUFFIX } from './filenames.ts'

export function isDiskFull(error: unknown): boolean {
  if (error instanceof AppError) return error.code === 'DISK_FULL'
  const errno = errnoOf(error)
  return errno === 'ENOSPC' || errno === 'EDQUOT'
}

export function diskError(error: unknown, doing: string): AppError {
  if (error instanceof AppError) return error
  if (error instanceof BugError) return new AppError('INTERNAL', error.message, { cause: error })
  if (isDiskFull(error)) return diskFull(doing, error)
  const reason = error instanceof Error ? error.message : String(error)
  return new AppError('STORAGE_ERROR', `${doing}: ${reason}`, { cause: error, hint: 'look at the disk and at the kernel log' })
}

export function diskFull(doing: string, cause?: unknown): AppError {
  return new AppError('DISK_FULL', `${doing}: no space left on the device`, {
    cause, hint: 'free space in the data folder; agents wait and go on by themselves',
  })
}

/** A short count without an error is how a full disk may look (tmpfs does it): then it is DISK_FULL. */
export async function writeFully(handle: FileHandle, buffers: readonly Uint8Array[], position: number): Promise<void> {
  let bytes = 0
  for (const buffer of buffers) bytes += buffer.length
  if (bytes === 0) return
  const written = await handle.write(buffers, position)
  if (written !== bytes) throw diskFull(`wrote ${written} of ${bytes} bytes`)
}

/**
 * fdatasync. Whatever it fails with, also ENOSPC, is STORAGE_ERROR: the kernel has marked the pages clean, so the handle
 * must not be synced again and what it holds is in doubt.
 */
export async function syncData(handle: FileHandle, what: string): Promise<void> {
  try {
    await handle.datasync()
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new AppError('STORAGE_ERROR', `sync of ${what} failed: ${reason}`, { cause: error, hint: 'look at the disk and at the kernel log' })
  }
}

export interface FileContents {
  readonly directory: string
  readonly name: string
  readonly pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>
}

/** Durable on return. A crash before leaves what was there. */
export async function replaceFile(fs: FileSystem, file: FileContents): Promise<void> {
  const path = `${file.directory}/${file.name}`
  const unfinished = path + UNFINISHED_SUFFIX
  const handle = await fs.open(unfinished, 'truncateWrite')
  try {
    let position = 0
    for await (const piece of file.pieces) {
      await writeFully(handle, [piece], position)
      position += piece.length
    }
    await syncData(handle, path)
  } finally {
    await handle.close()
  }
  await fs.rename(unfinished, path)
  await fs.syncDirectory(file.directory)
}

/** Contents are durable on return; the name only after the directory was synced. */
export async function writeSynced(fs: FileSystem, path: string, buffers: readonly Uint8Array[]): Promise<void> {
  const handle = await fs.open(path, 'truncateWrite')
  try {
    await writeFully(handle, buffers, 0)
    await syncData(handle, path)
  } finally {
    await handle.close()
  }
}

/** Undefined when there is no such file; a file over `bytesMax` is CORRUPT_DATA. */
export async function readWholeFile(fs: FileSystem, path: string, bytesMax: number): Promise<Buffer | undefined> {
  let handle: FileHandle
  try {
    handle = await fs.open(path, 'read')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    const { size } = await handle.stat()
    if (size > bytesMax) throw new AppError('CORRUPT_DATA', `${path} has ${size} bytes, over ${bytesMax}`)
    const bytes = Buffer.allocUnsafe(size)
    return bytes.subarray(0, await readFully(handle, bytes, 0))
  } finally {
    await handle.close()
  }
}

export async function removeIfThere(fs: FileSystem, path: string): Promise<void> {
  try {
    await fs.remove(path)
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error
  }
}
