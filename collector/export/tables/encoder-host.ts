/**
 * Where table files are encoded: a worker thread in a daemon, the caller's own thread in tests. One encoding at a time
 * runs in a host; its calls are awaited one after the other, so at most one piece of a segment is on its way.
 */
import type { Zstd } from '../../../shared/zstd.ts'
import { TableEncoder, type BatchInput, type EncodeJob, type EncodeOutput } from './table-encoder.ts'

export interface TableEncoding {
  /** Takes the memory of the batches over. */
  add(input: BatchInput): Promise<EncodeOutput>
  finish(): Promise<EncodeOutput>
}

export interface EncoderHost {
  /** Gives up an encoding that was not finished. */
  begin(job: EncodeJob): TableEncoding
  close(): Promise<void>
}

export function createInProcessEncoder(zstd: Zstd): EncoderHost {
  return {
    begin: (job) => {
      const encoder = new TableEncoder(job, zstd)
      return { add: async (input) => encoder.add(input), finish: async () => encoder.finish() }
    },
    close: () => Promise.resolve(),
  }
}
