/**
 * Entry of the table worker (encoder-thread.ts starts it): batches in, bytes of table files out. It holds one encoding;
 * a request with a job begins the next. What dies with it is made again from the segments.
 */
import { parentPort, type MessagePort } from 'node:worker_threads'
import { assert, toAppError, type ErrorCode } from '../../../shared/errors.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { TableEncoder, type BatchInput, type EncodeJob, type EncodeOutput } from './table-encoder.ts'

export interface EncodeRequest {
  readonly id: number
  /** With the first request of an encoding. */
  readonly job?: EncodeJob
  /** undefined: finish. */
  readonly input: BatchInput | undefined
}

export type EncodeAnswer =
  | { readonly id: number; readonly output: EncodeOutput }
  | { readonly id: number; readonly error: { readonly code: ErrorCode; readonly message: string } }

async function serve(port: MessagePort): Promise<void> {
  const zstd = await loadZstd()
  let encoder: TableEncoder | undefined
  port.on('message', ({ id, job, input }: EncodeRequest) => {
    try {
      if (job !== undefined) encoder = new TableEncoder(job, zstd)
      assert(encoder !== undefined, 'an encoding begins with its job')
      const output = input === undefined ? encoder.finish() : encoder.add(input)
      port.postMessage({ id, output } satisfies EncodeAnswer)
    } catch (error) {
      const { code, message } = toAppError(error)
      port.postMessage({ id, error: { code, message } } satisfies EncodeAnswer)
    }
  })
}

if (parentPort !== null) await serve(parentPort)
