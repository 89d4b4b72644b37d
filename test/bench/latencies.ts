/** When each line was written, and how long it took until somebody saw it. Times are performance.now() of one process. */
import { percentile } from './statistics.ts'
import type { Figures } from './workload.ts'

export class Latencies {
  private readonly writtenMs: Float64Array
  private readonly tookMs: Float64Array
  private from = 0
  private to = Number.MAX_SAFE_INTEGER

  constructor(total: number) {
    this.writtenMs = new Float64Array(total).fill(Number.NaN)
    this.tookMs = new Float64Array(total).fill(Number.NaN)
  }

  wrote(sequence: number, atMs: number): void {
    this.writtenMs[sequence] = atMs
  }

  /** The first time counts. */
  saw(sequence: number, atMs: number): void {
    const written = this.writtenMs[sequence]
    if (written !== undefined && Number.isNaN(this.tookMs[sequence])) this.tookMs[sequence] = atMs - written
  }

  took(sequence: number): number {
    return this.tookMs[sequence] ?? Number.NaN
  }

  /** Only lines of this range count: neither the warm-up nor what comes behind the load. */
  window(from: number, to: number): void {
    this.from = from
    this.to = to
  }

  figures(name: string): Figures {
    const sorted = this.tookMs.slice(this.from, Math.min(this.to, this.tookMs.length)).filter((value) => !Number.isNaN(value)).toSorted()
    return {
      [`${name} p50 ms`]: percentile(sorted, 0.5),
      [`${name} p99 ms`]: percentile(sorted, 0.99),
      [`${name} p99.9 ms`]: percentile(sorted, 0.999),
    }
  }
}
