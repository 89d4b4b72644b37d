/**
 * Load: so many lines a second into some files, in small writes at a steady pace, until it is stopped. Keeps when each
 * line was written, and which line ends where in its file. One writer for all files, in this process; each write is one
 * call to the kernel.
 */
import { appendFileSync, closeSync, openSync, writeSync } from 'node:fs'
import type { LineMaker } from './lines.ts'
import { sleep } from './programs.ts'

const TICK_MS = 10

export interface LoadOptions {
  readonly paths: readonly string[]
  readonly linesPerSecond: number
  readonly make: LineMaker
  readonly wrote: (sequence: number, atMs: number) => void
}

/** Lines [first, next) end at `end` of the file. */
interface Write {
  readonly end: number
  readonly first: number
  readonly next: number
}

interface LoadFile {
  readonly path: string
  readonly handle: number
  position: number
  /** Not acked yet, in order. */
  writes: Write[]
}

export class Load {
  next = 0
  private readonly options: LoadOptions
  private readonly files: readonly LoadFile[]
  private isStopped = false

  constructor(options: LoadOptions) {
    this.options = options
    this.files = options.paths.map((path) => ({ path, handle: openSync(path, 'a'), position: 0, writes: [] }))
  }

  /** Lines that were written until now come when they are due; a late tick catches up. Ends with `stop`. */
  async run(): Promise<void> {
    const { linesPerSecond } = this.options
    const startedMs = performance.now()
    const first = this.next
    for (let turn = 0; !this.isStopped; turn += 1) {
      const due = first + Math.floor(((performance.now() - startedMs) / 1000) * linesPerSecond)
      for (let at = 0; at < this.files.length; at += 1) this.write(at, Math.ceil((due - this.next) / (this.files.length - at)))
      await sleep(Math.max(1, startedMs + (turn + 1) * TICK_MS - performance.now()))
    }
    this.isStopped = false
  }

  stop(): void {
    this.isStopped = true
  }

  /** Some lines now; gives the number of the first. */
  write(fileAt: number, count: number): number {
    const file = this.files[fileAt % this.files.length]
    const first = this.next
    if (file === undefined || count <= 0) return first
    let text = ''
    for (; this.next < first + count; this.next += 1) text += this.options.make(this.next)
    const atMs = performance.now()
    const bytes = Buffer.from(text, 'latin1')
    if (writeSync(file.handle, bytes) !== bytes.length) throw new Error(`a short write to ${file.path}`)
    file.position += bytes.length
    file.writes.push({ end: file.position, first, next: this.next })
    for (let sequence = first; sequence < this.next; sequence += 1) this.options.wrote(sequence, atMs)
    return first
  }

  /** One line into a file that this load does not hold open; gives its number. */
  writeElsewhere(path: string): number {
    const sequence = this.next
    const line = this.options.make(sequence)
    this.next += 1
    const atMs = performance.now()
    appendFileSync(path, line, 'latin1')
    this.options.wrote(sequence, atMs)
    return sequence
  }

  /** Tells each line of the file up to this position, once. */
  settled(path: string, position: number, seen: (sequence: number) => void): void {
    const file = this.files.find((each) => each.path === path)
    if (file === undefined) return
    const done = file.writes.findIndex(({ end }) => end > position)
    const settled = file.writes.splice(0, done < 0 ? file.writes.length : done)
    for (const { first, next } of settled) for (let sequence = first; sequence < next; sequence += 1) seen(sequence)
  }

  close(): void {
    for (const { handle } of this.files) closeSync(handle)
  }
}
