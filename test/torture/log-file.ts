/**
 * One log file under a writer's hands: appends content, rotates by rename or copytruncate, and tells the ledger what
 * reached the kernel. All calls are synchronous, so that the ledger is never behind the disk.
 */
import { closeSync, copyFileSync, openSync, renameSync, truncateSync, unlinkSync, writeSync, existsSync } from 'node:fs'
import type { Content, ContentFactory, Flavour } from './content.ts'
import type { Incarnation, Ledger } from './ledger.ts'

export interface LogFileOptions {
  readonly path: string
  /** Name in the ledger. */
  readonly file: string
  readonly flavour: Flavour
  readonly agent: string
  readonly ledger: Ledger
  readonly contents: ContentFactory
}

/** A descriptor that a writer keeps after its file was renamed. */
export interface OldFile {
  append(lines: number): void
  close(): void
}

export class LogFile {
  private readonly options: LogFileOptions
  private descriptor: number | undefined
  private incarnation: Incarnation
  private content: Content
  /** What a write left over of a line: a writer that flushes in the middle of one. */
  private carry: Buffer = Buffer.alloc(0)
  private count = 0

  constructor(options: LogFileOptions) {
    this.options = options
    ;[this.incarnation, this.content] = this.nextContent()
  }

  private nextContent(): [Incarnation, Content] {
    const { ledger, contents, file, flavour } = this.options
    this.carry = Buffer.alloc(0)
    this.count += 1
    return [ledger.begin(this.options, this.count), contents.open({ file, number: this.count, flavour })]
  }

  /** Appends lines with one write; `cutBytes` of the last line stay behind for the next call. */
  append(lines: number, cutBytes = 0): void {
    this.descriptor ??= openSync(this.options.path, 'a')
    this.carry = appendTo(this.descriptor, { incarnation: this.incarnation, content: this.content, carry: this.carry, lines, cutBytes })
  }

  /** The base name is absent until the next append. The old file may be written on through what is answered. */
  renameTo(path: string): { incarnation: Incarnation; old: OldFile } | undefined {
    if (this.descriptor === undefined) return undefined
    const { descriptor, incarnation, content } = this
    let { carry } = this
    renameSync(this.options.path, path)
    this.descriptor = undefined
    ;[this.incarnation, this.content] = this.nextContent()
    return {
      incarnation,
      old: {
        append: (lines) => {
          carry = appendTo(descriptor, { incarnation, content, carry, lines, cutBytes: 0 })
        },
        close: () => closeSync(descriptor),
      },
    }
  }

  /** Copies, then truncates; nothing is written between, so that every byte stands in one of the two. */
  copyTruncate(path: string): Incarnation | undefined {
    if (this.descriptor === undefined || this.incarnation.bytes === 0) return undefined
    const { incarnation } = this
    copyFileSync(this.options.path, path)
    truncateSync(this.options.path, 0)
    ;[this.incarnation, this.content] = this.nextContent()
    return incarnation
  }

  /** Removes the file under its base name; the writer's descriptor goes too. */
  remove(): void {
    this.close()
    if (!existsSync(this.options.path)) return
    unlinkSync(this.options.path)
    this.incarnation.destroyedAtMs = performance.now()
  }

  /** Ends an unfinished line. */
  finish(): void {
    if (this.carry.length > 0) this.append(0)
  }

  close(): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor)
    this.descriptor = undefined
  }
}

function appendTo(
  descriptor: number,
  write: { incarnation: Incarnation; content: Content; carry: Buffer; lines: number; cutBytes: number },
): Buffer {
  const pieces = [write.carry]
  for (let line = 0; line < write.lines; line += 1) pieces.push(write.content.nextLine())
  const all = Buffer.concat(pieces)
  const end = Math.max(0, all.length - write.cutBytes)
  let done = 0
  while (done < end) done += writeSync(descriptor, all, done, end - done)
  write.incarnation.bytes += done
  write.incarnation.writtenAtMs = performance.now()
  return all.subarray(done)
}
