/**
 * Scans in the caller's own thread: for tests and for programs that have nothing else to do meanwhile. A daemon uses the
 * worker pool, because a scan holds its thread for milliseconds.
 */
import { AppError } from '../../shared/errors.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { ScanExecutor } from './scan-types.ts'
import { ScannerCache } from './scanner-cache.ts'

export function createInProcessExecutor(zstd: Zstd): ScanExecutor {
  const scanners = new ScannerCache(zstd)
  return {
    concurrency: 1,
    scan: async (task, unit, signal) => {
      if (signal.aborted) throw new AppError('ABORTED', 'the query was cancelled')
      return scanners.get(task)(unit)
    },
    close: () => Promise.resolve(),
  }
}
