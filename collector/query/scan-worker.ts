/**
 * Entry of a scan worker (worker-pool.ts starts it): takes one unit at a time from its parent and answers with the page.
 * It holds no state but compiled patterns, so a worker that dies loses nothing.
 */
import { parentPort, type MessagePort } from 'node:worker_threads'
import { toAppError, type ErrorCode } from '../../shared/errors.ts'
import { loadZstd } from '../../shared/zstd.ts'
import type { ScanPage, ScanTask, ScanUnit } from './scan-types.ts'
import { ScannerCache } from './scanner-cache.ts'

export interface ScanJob {
  readonly id: number
  readonly task: ScanTask
  readonly unit: ScanUnit
}

export type ScanAnswer =
  | { readonly id: number; readonly page: ScanPage }
  | { readonly id: number; readonly error: { readonly code: ErrorCode; readonly message: string } }

async function serve(port: MessagePort): Promise<void> {
  const scanners = new ScannerCache(await loadZstd())
  port.on('message', ({ id, task, unit }: ScanJob) => {
    try {
      const page = scanners.get(task)(unit)
      const buffers = [page.keys, page.offsets, page.ends, page.text, page.isMatch, page.sourceOf].map(({ buffer }) => buffer as ArrayBuffer)
      port.postMessage({ id, page } satisfies ScanAnswer, buffers)
    } catch (error) {
      const { code, message } = toAppError(error)
      port.postMessage({ id, error: { code, message } } satisfies ScanAnswer)
    }
  })
}

if (parentPort !== null) await serve(parentPort)
