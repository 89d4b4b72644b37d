/**
 * Output into a file. It is written under another name and gets its own when it is finished, so that a file of this
 * name is always whole. Durable after `finish`.
 */
import { errnoOf } from '../../shared/errors.ts'
import { parentOf } from '../../shared/files.ts'
import type { FileHandle, FileSystem } from '../../shared/system.ts'
import { ExitError, exitCodes } from './exit-codes.ts'
import { writeFully } from './local-file.ts'

const BLOCK_BYTES = 1024 * 1024

export interface FileTarget {
  write(bytes: Uint8Array): Promise<void>
  finish(): Promise<void>
  discard(): Promise<void>
}

/** Every failure of the disk is an error with the exit code of a failed sink. */
export async function openFileTarget(fs: FileSystem, path: string): Promise<FileTarget> {
  const temporary = `${path}.tailrace-part`
  const handle = await guard(path, () => fs.open(temporary, 'truncateWrite'))
  const writer = new BlockWriter(handle)
  return {
    write: (bytes) => guard(path, () => writer.write(bytes)),
    finish: () =>
      guard(path, async () => {
        await writer.flush()
        await handle.sync()
        await handle.close()
        await fs.rename(temporary, path)
        await fs.syncDirectory(parentOf(path))
      }),
    discard: () =>
      guard(path, async () => {
        await handle.close()
        await fs.remove(temporary)
      }),
  }
}

/** Gathers small writes into blocks. */
export class BlockWriter {
  position: number
  private readonly handle: FileHandle
  private pieces: Uint8Array[] = []
  private pendingBytes = 0

  constructor(handle: FileHandle, position = 0) {
    this.handle = handle
    this.position = position
  }

  /** The bytes must not change before the next flush. */
  async write(bytes: Uint8Array): Promise<void> {
    this.pieces.push(bytes)
    this.pendingBytes += bytes.length
    if (this.pendingBytes >= BLOCK_BYTES) await this.flush()
  }

  async flush(): Promise<void> {
    if (this.pendingBytes === 0) return
    const block = Buffer.concat(this.pieces, this.pendingBytes)
    this.pieces = []
    this.pendingBytes = 0
    await writeFully(this.handle, block, this.position)
    this.position += block.length
  }
}

export async function guard<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action()
  } catch (error) {
    const errno = errnoOf(error)
    const message = errno ?? (error instanceof Error ? error.message : String(error))
    throw new ExitError(exitCodes.sinkFailed, errno === 'ENOSPC' ? 'DISK_FULL' : 'STORAGE_ERROR', `cannot write ${path}: ${message}`, { cause: error })
  }
}
