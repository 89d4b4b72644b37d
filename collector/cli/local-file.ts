/** Small helpers on local files for the commands: read whole under a cap, write all of a buffer, replace atomically. */
import { AppError, errnoOf } from '../../shared/errors.ts'
import { parentOf, readFully } from '../../shared/files.ts'
import type { FileHandle, FileSystem } from '../../shared/system.ts'
import { usageError } from './exit-codes.ts'

/** Throws a usage error when it is absent, too large or not readable. */
export async function readWholeFile(fs: FileSystem, path: string, bytesMax: number): Promise<Buffer> {
  let handle: FileHandle
  try {
    handle = await fs.open(path, 'read')
  } catch (error) {
    throw usageError(`cannot read ${path}: ${errnoOf(error) ?? String(error)}`)
  }
  try {
    const { size } = await handle.stat()
    if (size > bytesMax) throw usageError(`${path} has ${size} bytes, at most ${bytesMax} were expected`)
    const content = Buffer.alloc(size)
    return content.subarray(0, await readFully(handle, content, 0))
  } finally {
    await handle.close()
  }
}

/** A short write without an error is how a full disk may look. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    const count = await handle.write([bytes.subarray(written)], position + written)
    if (count === 0) throw new AppError('DISK_FULL', `the disk took ${written} of ${bytes.length} bytes`)
    written += count
  }
}

/** Durable on return: written beside it, synced, renamed, directory synced. A crash leaves the old or the new one. */
export async function replaceFile(fs: FileSystem, path: string, content: Buffer): Promise<void> {
  const temporary = `${path}.new`
  const handle = await fs.open(temporary, 'truncateWrite')
  try {
    await writeFully(handle, content, 0)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await fs.rename(temporary, path)
  await fs.syncDirectory(parentOf(path))
}
