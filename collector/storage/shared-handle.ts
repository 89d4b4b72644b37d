/**
 * A file handle that its writer may give up while readers still use it: the last one out closes it. Reading a handle
 * that was closed, and whose number another file has by now, is what this rules out.
 */
import { AppError } from '../../shared/errors.ts'
import type { FileHandle } from '../../shared/system.ts'

export class SharedHandle {
  readonly file: FileHandle
  private users = 0
  private isRetired = false

  constructor(file: FileHandle) {
    this.file = file
  }

  /** Counts in this turn already: a caller that just looked the segment up can't be too late. Throws UNAVAILABLE after `retire`. */
  async use<T>(task: (file: FileHandle) => Promise<T>): Promise<T> {
    if (this.isRetired) throw new AppError('UNAVAILABLE', 'this segment is closed', { retryAfterMs: 1000 })
    this.users += 1
    try {
      return await task(this.file)
    } finally {
      this.users -= 1
      if (this.isRetired && this.users === 0) await this.file.close()
    }
  }

  /** No new users from now on. */
  async retire(): Promise<void> {
    if (this.isRetired) return
    this.isRetired = true
    if (this.users === 0) await this.file.close()
  }
}
