/**
 * Descriptors of source files: opened so that a FIFO or a symlink can't hurt, checked to be the file that was meant, and
 * capped. A file that still has its name gives its descriptor back first; one that was rotated or deleted keeps it,
 * because the bytes behind it can't be opened again.
 */
import { AppError } from '../shared/errors.ts'
import type { FileHandle, Gauge, System } from '../shared/system.ts'
import { describeReadError } from './read-error.ts'
import type { SourceFile } from './source-file.ts'

export class Handles {
  private readonly system: System
  private readonly openMax: number
  /** In order of last use, oldest first. */
  private readonly open = new Set<SourceFile>()
  private readonly held: Gauge

  constructor(system: System, openMax: number) {
    this.system = system
    this.openMax = openMax
    this.held = system.metrics.gauge('tailrace_agent_held_descriptors', 'Descriptors of source files that are open')
  }

  /** The file's handle. Rejects with NOT_FOUND when another file, or none, stands at its path now. */
  async of(file: SourceFile): Promise<FileHandle> {
    if (file.handle === undefined) {
      await this.makeRoom(file)
      const handle = await this.openChecked(file)
      // Somebody else may have opened it while we waited.
      if (file.handle === undefined) file.handle = handle
      else await handle.close()
    }
    this.open.delete(file)
    this.open.add(file)
    this.held.set(this.open.size)
    return file.handle
  }

  /**
   * A descriptor that gives errors is changed for a new one, if its file can be opened again: behind a name that was
   * just removed or rotated, it is all that we have.
   */
  async renew(file: SourceFile): Promise<void> {
    const { handle } = file
    let fresh: FileHandle
    try {
      fresh = await this.openChecked(file)
    } catch (error) {
      this.system.log.debug('a file can not be opened anew, its old descriptor stays', { path: file.path, reason: describeReadError(error).text })
      return
    }
    // Closed by somebody else while we waited: then nobody wants this one either.
    if (file.handle !== handle) await fresh.close()
    else {
      file.handle = fresh
      await handle?.close()
    }
  }

  async close(file: SourceFile): Promise<void> {
    const { handle } = file
    file.handle = undefined
    this.open.delete(file)
    this.held.set(this.open.size)
    await handle?.close()
  }

  async closeAll(): Promise<void> {
    for (const file of this.open) await this.close(file)
  }

  private async openChecked(file: SourceFile): Promise<FileHandle> {
    const handle = await this.system.fs.open(file.openPath, 'readSource')
    try {
      const stat = await handle.stat()
      // The birth time too: the inode of a file that was removed is soon another's.
      if (stat.kind === 'file' && stat.inode === file.inode && stat.device === file.device && stat.birthtimeNs === file.birthtimeNs) return handle
      throw new AppError('NOT_FOUND', `${file.openPath} is another file now`)
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  private async makeRoom(wanted: SourceFile): Promise<void> {
    if (this.open.size < this.openMax) return
    for (const file of this.open) {
      if (file === wanted || file.isBusy || file.isDetached || !file.isListed) continue
      await this.close(file)
      return
    }
    throw new AppError('UNAVAILABLE', `${this.open.size} descriptors are held, all of rotated or busy files`, {
      hint: 'raise openFilesMax, or find out why the collector does not take their bytes',
    })
  }
}
