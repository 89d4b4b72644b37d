/**
 * Memory for batches and requests, used again once nobody reads them any more. V8 collects buffers when its own small heap
 * asks for it, which is too late and too dear: an agent's backlog costs 20 MiB of garbage on top of its budget, and a busy
 * collector spends a fifth of its CPU on marking a heap for the sake of buffers outside of it (both measured).
 *
 * What is given back must be read by nobody: a sealed batch once the collector has echoed its CRC, a request once all its
 * frames are settled. What is dropped otherwise is left to the garbage collector.
 */

/** Smaller batches are cheap to collect. */
const POOLED_BYTES_MIN = 32 * 1024

export class BufferPool {
  private readonly freeBytesMax: number
  private readonly ours = new WeakSet<ArrayBufferLike>()
  /** By capacity, a power of two. */
  private free = new Map<number, Buffer[]>()
  private freeBytes = 0

  constructor(freeBytesMax: number) {
    this.freeBytesMax = freeBytesMax
  }

  /** Exactly so many bytes, with anything in them. */
  take(bytes: number): Buffer {
    if (bytes < POOLED_BYTES_MIN) return Buffer.allocUnsafe(bytes)
    const capacity = 2 ** Math.ceil(Math.log2(bytes))
    const found = this.free.get(capacity)?.pop()
    if (found !== undefined) {
      this.freeBytes -= capacity
      return found.subarray(0, bytes)
    }
    // Pages that are never written to take no memory, so the roundings cost little.
    const made = Buffer.allocUnsafeSlow(capacity)
    this.ours.add(made.buffer)
    return made.subarray(0, bytes)
  }

  /** Only for what nobody reads any more; buffers that did not come from here are left alone. */
  give(buffer: Buffer): void {
    const capacity = buffer.buffer.byteLength
    if (!this.ours.has(buffer.buffer) || this.freeBytes + capacity > this.freeBytesMax) return
    const list = this.free.get(capacity) ?? []
    this.free.set(capacity, list)
    list.push(Buffer.from(buffer.buffer))
    this.freeBytes += capacity
  }

  trim(): void {
    this.free = new Map()
    this.freeBytes = 0
  }
}
