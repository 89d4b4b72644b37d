/**
 * Encodes table files on a worker thread, so that taking in lines never waits for gzip. The thread starts with the first
 * encoding and does not keep the process alive. One that dies fails the encoding it had; the next begins a new thread,
 * after the pause that every failed step makes.
 */
import { Worker } from 'node:worker_threads'
import { AppError, assert } from '../../../shared/errors.ts'
import type { Log } from '../../../shared/system.ts'
import type { EncoderHost, TableEncoding } from './encoder-host.ts'
import type { EncodeJob, EncodeOutput } from './table-encoder.ts'
import type { EncodeAnswer, EncodeRequest } from './table-worker.ts'

/** Rows make much garbage and little of it lives: more room here is only memory that the process never gives back. */
const YOUNG_MIB = 16

interface Waiting {
  readonly resolve: (output: EncodeOutput) => void
  readonly reject: (error: AppError) => void
}

/** `entry`: the built table-worker. */
export function createEncoderThread(options: { entry: URL; log: Log }): EncoderHost {
  const thread = new EncoderThread(options)
  return { begin: (job) => thread.begin(job), close: () => thread.close() }
}

class EncoderThread {
  private readonly options: { entry: URL; log: Log }
  private worker: Worker | undefined
  private waiting: Waiting | undefined
  private nextId = 0
  private isClosed = false

  constructor(options: { entry: URL; log: Log }) {
    this.options = options
  }

  begin(job: EncodeJob): TableEncoding {
    const id = this.nextId
    this.nextId += 1
    let isBegun = false
    const ask = (request: EncodeRequest, moved: readonly ArrayBuffer[]): Promise<EncodeOutput> => {
      const whole = isBegun ? request : { ...request, job }
      isBegun = true
      return this.ask(whole, moved)
    }
    return {
      add: (input) => {
        // Transferred, not copied: so it must be all of its memory, and must not come from Node's shared pool.
        const batches = input.batches.byteLength === input.batches.buffer.byteLength ? input.batches : Uint8Array.from(input.batches)
        return ask({ id, input: { ...input, batches } }, [batches.buffer as ArrayBuffer])
      },
      finish: () => ask({ id, input: undefined }, []),
    }
  }

  private ask(request: EncodeRequest, moved: readonly ArrayBuffer[]): Promise<EncodeOutput> {
    if (this.isClosed) return Promise.reject(new AppError('ABORTED', 'the collector is stopping'))
    assert(this.waiting === undefined, 'encodings wait for each other')
    this.worker ??= this.start()
    const { worker } = this
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject }
      worker.ref()
      worker.postMessage(request, moved)
    })
  }

  private start(): Worker {
    const worker = new Worker(this.options.entry, { name: 'tailrace-tables', stdin: false, resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB } })
    worker.on('message', (answer: EncodeAnswer) => this.settle(worker, answer))
    worker.on('error', (error) => this.bury(worker, error.message))
    worker.on('exit', (code) => this.bury(worker, `exit code ${code}`))
    return worker
  }

  private settle(worker: Worker, answer: EncodeAnswer): void {
    const { waiting } = this
    this.waiting = undefined
    worker.unref()
    if ('output' in answer) waiting?.resolve(answer.output)
    else waiting?.reject(new AppError(answer.error.code, answer.error.message))
  }

  private bury(worker: Worker, reason: string): void {
    if (this.worker !== worker) return
    this.worker = undefined
    const { waiting } = this
    this.waiting = undefined
    if (!this.isClosed) this.options.log.error('the table worker died', { reason })
    waiting?.reject(this.isClosed ? new AppError('ABORTED', 'the collector is stopping') : new AppError('INTERNAL', `the table worker died: ${reason}`))
  }

  async close(): Promise<void> {
    this.isClosed = true
    await this.worker?.terminate()
  }
}
