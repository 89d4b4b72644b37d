/**
 * What `FileSystem` leaves to its callers: reads that come in pieces, and small whole files, read with a cap and written
 * so that a crash leaves the old contents or the new. Whole files are not for logs and indexes.
 */
import { AppError } from './errors.ts'
import type { FileHandle, FileSystem } from './system.ts'

/** The folder that a path stands in; '.' for a bare name. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/')
  if (slash < 0) return '.'
  return slash === 0 ? '/' : path.slice(0, slash)
}

/** Fills `target` as far as the file goes; answers how many bytes that were. */
export async function readFully(handle: Pick<FileHandle, 'read'>, target: Buffer, position: number): Promise<number> {
  let filled = 0
  while (filled < target.length) {
    const count = await handle.read(target, { offset: filled, length: target.length - filled, position: position + filled })
    if (count === 0) break
    filled += count
  }
  return filled
}

/** Throws MESSAGE_TOO_LARGE for a longer file, and the platform's own errors. */
export async function readWholeFile(fs: FileSystem, path: string, bytesMax: number): Promise<Buffer> {
  const handle = await fs.open(path, 'read')
  try {
    const { size } = await handle.stat()
    if (size > bytesMax) throw new AppError('MESSAGE_TOO_LARGE', `${path} has ${size} bytes, over ${bytesMax}`)
    const bytes = Buffer.alloc(size)
    return bytes.subarray(0, await readFully(handle, bytes, 0))
  } finally {
    await handle.close()
  }
}

export async function readTextFile(fs: FileSystem, path: string, bytesMax: number): Promise<string> {
  return (await readWholeFile(fs, path, bytesMax)).toString('utf8')
}

/** On return the new contents survive a power cut. One writer at a time for one path. */
export async function writeFileDurably(fs: FileSystem, path: string, bytes: Uint8Array, options: { permissions?: number } = {}): Promise<void> {
  const temporary = `${path}.tmp`
  if ((await fs.stat(temporary)) !== undefined) await fs.remove(temporary) // left by a crash, perhaps with other permissions
  const handle = await fs.open(temporary, 'create', options.permissions)
  try {
    const written = await handle.write([bytes], 0)
    if (written !== bytes.length) throw new AppError('DISK_FULL', `only ${written} of ${bytes.length} bytes of ${path} could be written`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await fs.rename(temporary, path)
  await fs.syncDirectory(parentOf(path))
}
