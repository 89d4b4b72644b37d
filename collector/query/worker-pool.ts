/**
 * Scans on worker threads, so that queries use the other cores and never hold up the thread that takes in batches.
 * Workers start with the first scan. One that dies fails the scan it had and is replaced; after several deaths in a row
 * scans are refused for the rest of the process's life, since a crash loop would eat the machine.
 *
 * May be called by any number of queries at once: scans wait in one queue, in order of arrival.
 */
import { Worker } from 'node:worker_threads'
import { AppError } from '../../shared/errors.ts'
import type { Log } from '../../shared/system.ts'
import type { ScanExecutor, ScanPage, ScanTask, ScanUnit } from './scan-types.ts'
import type { ScanAnswer, ScanJob } from './scan-worker.ts'

const DEATHS_MAX = 5
/** Queries keep a few scans each in flight; more than this waiting means that something does not wait for answers. */
const QUEUE_MAX = 16_384

export interface WorkerPoolOptions {
  /** The built scan-worker. */
  readonly entry: URL
  readonly size: number
  readonly log: Log
}

export function createWorkerPool(options: WorkerPoolOptions): ScanExecutor {
  const pool = new WorkerPool(options)
  return {
    concurrency: options.size,
    scan: (task, unit, signal) => pool.scan(task, unit, signal),
    close: () => pool.close(),
  }
}

interface Waiting {
  readonly job: ScanJob
  readonly signal: AbortSignal
  readonly resolve: (page: ScanPage) => void
  readonly reject: (error: AppError) => void
}

interface Slot {
  readonly worker: Worker
  current: Waiting | undefined
}

class WorkerPool {
  private readonly options: WorkerPoolOptions
  private readonly slots = new Set<Slot>()
  private readonly queue: Waiting[] = []
  private nextId = 0
  private deathsInARow = 0
  private isClosed = false

  constructor(options: WorkerPoolOptions) {
    this.options = options
  }

  scan(task: ScanTask, unit: ScanUnit, signal: AbortSignal): Promise<ScanPage> {
    if (this.isClosed) return Promise.reject(new AppError('UNAVAILABLE', 'the collector is stopping'))
    if (this.deathsInARow >= DEATHS_MAX) return Promise.reject(new AppError('INTERNAL', 'the scan workers keep dying; see the log of the collector'))
    if (this.queue.length >= QUEUE_MAX) return Promise.reject(new AppError('UNAVAILABLE', `${QUEUE_MAX} scans are waiting`))
    return new Promise((resolve, reject) => {
      this.queue.push({ job: { id: this.nextId, task, unit }, signal, resolve, reject })
      this.nextId += 1
      this.dispatch()
    })
  }

  async close(): Promise<void> {
    this.isClosed = true
    for (const { reject } of this.queue.splice(0)) reject(new AppError('UNAVAILABLE', 'the collector is stopping'))
    await Promise.all([...this.slots].map(({ worker }) => worker.terminate()))
  }

  private dispatch(): void {
    while (this.queue.length > 0) {
      const slot = this.idleSlot()
      if (slot === undefined) return
      const waiting = this.queue.shift()
      if (waiting === undefined) return
      if (waiting.signal.aborted) {
        waiting.reject(cancelled())
        continue
      }
      slot.current = waiting
      slot.worker.ref()
      // The unit's buffer is its own (scan-types.ts), so it is moved, not copied.
      slot.worker.postMessage(waiting.job, [waiting.job.unit.batches.buffer as ArrayBuffer])
    }
  }

  private idleSlot(): Slot | undefined {
    for (const slot of this.slots) if (slot.current === undefined) return slot
    return this.slots.size < this.options.size ? this.start() : undefined
  }

  private start(): Slot {
    const worker = new Worker(this.options.entry, { name: 'tailrace-scan', stdin: false })
    const slot: Slot = { worker, current: undefined }
    this.slots.add(slot)
    worker.on('message', (answer: ScanAnswer) => this.settle(slot, answer))
    worker.on('error', (error) => this.bury(slot, error.message))
    worker.on('exit', (code) => this.bury(slot, `exit code ${code}`))
    return slot
  }

  private settle(slot: Slot, answer: ScanAnswer): void {
    const waiting = slot.current
    slot.current = undefined
    // An idle worker must not keep the process alive.
    slot.worker.unref()
    this.deathsInARow = 0
    if (waiting !== undefined) {
      if (waiting.signal.aborted) waiting.reject(cancelled())
      else if ('page' in answer) waiting.resolve(answer.page)
      else waiting.reject(new AppError(answer.error.code, answer.error.message))
    }
    this.dispatch()
  }

  private bury(slot: Slot, reason: string): void {
    if (!this.slots.delete(slot)) return
    const dead = new AppError('INTERNAL', `a scan worker died: ${reason}`)
    slot.current?.reject(dead)
    if (this.isClosed) return
    this.deathsInARow += 1
    this.options.log.error('scan worker died', { reason, deathsInARow: this.deathsInARow })
    if (this.deathsInARow < DEATHS_MAX) this.dispatch()
    else for (const { reject } of this.queue.splice(0)) reject(dead)
  }
}

function cancelled(): AppError {
  return new AppError('ABORTED', 'the query was cancelled')
}
