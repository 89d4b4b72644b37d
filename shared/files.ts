/**
 * Small whole files through `FileSystem`: read with a cap, written so that a crash leaves the old contents or the new.
 * Not for logs and indexes.
 */
import { dirname } from 'node:path'
import { AppError } from './errors.ts'
import type { FileSystem } from './system.ts'

/** Throws MESSAGE_TOO_LARGE for a longer file, and the platform's own errors. */
export async function readWholeFile(fs: FileSystem, path: string, bytesMax: number): Promise<Buffer> {
  const handle = await fs.open(path, 'read')
  try {
    const { size } = await handle.stat()
    if (size > bytesMax) throw new AppError('MESSAGE_TOO_LARGE', `${path} has ${size} bytes, over ${bytesMax}`)
    const bytes = Buffer.alloc(size)
    let at = 0
    while (at < size) {
      const count = await handle.read(bytes, { offset: at, length: size - at, position: at })
      if (count === 0) break
      at += count
    }
    return bytes.subarray(0, at)
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
  await fs.syncDirectory(dirname(path))
}
