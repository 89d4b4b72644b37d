/**
 * The world of writers: programs that log, and what rotates their files. Each is driven by `tick`, in one process, and
 * takes its decisions from a seeded random.
 */
import { gzipSync } from 'node:zlib'
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, unlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ContentFactory, Flavour } from './content.ts'
import type { Incarnation, Ledger } from './ledger.ts'
import { LogFile, type OldFile } from './log-file.ts'

export interface Writer {
  tick(nowMs: number): void
  /** No more rotation; unfinished lines are ended. */
  finish(): void
}

export interface WriterOptions {
  readonly folder: string
  readonly agent: string
  readonly ledger: Ledger
  readonly contents: ContentFactory
  readonly random: () => number
  readonly linesPerSecond: number
}

export interface RotatingOptions extends WriterOptions {
  /** Folder below `folder`, and the file's name in the ledger. */
  readonly name: string
  readonly flavour: Flavour
  readonly how: 'rename' | 'copytruncate'
  readonly rotateMs: number
  /** `shift`: app.log.1 becomes app.log.2 and so on. `date`: every rotated file gets a name of its own. */
  readonly naming: 'shift' | 'date'
  /** Rotated files that are kept; older ones are removed. */
  readonly keep: number
  /** Rotated files older than this are compressed and the plain one is removed. */
  readonly gzipAfterMs?: number
  /** Whether writes end in the middle of lines, and rotated files get late lines. */
  readonly isUntidy: boolean
}

interface Rotated {
  path: string
  readonly incarnation: Incarnation
  readonly atMs: number
  isCompressed: boolean
}

/** `app.log`, rotated again and again. */
export class RotatingWriter implements Writer {
  readonly basePath: string
  private readonly options: RotatingOptions
  private readonly log: LogFile
  private rotated: Rotated[] = []
  private old: { readonly file: OldFile; readonly untilMs: number }[] = []
  private lastTickMs: number | undefined
  private owedLines = 0
  private nextRotationMs: number | undefined
  private rotations = 0
  isRotating = true

  constructor(options: RotatingOptions) {
    this.options = options
    const folder = join(options.folder, options.name)
    mkdirSync(folder, { recursive: true })
    this.basePath = join(folder, 'app.log')
    this.log = new LogFile({ ...options, file: options.name, path: this.basePath })
  }

  tick(nowMs: number): void {
    const { options } = this
    this.owedLines += ((nowMs - (this.lastTickMs ?? nowMs)) / 1000) * options.linesPerSecond
    this.lastTickMs = nowMs
    const lines = Math.floor(this.owedLines)
    this.owedLines -= lines
    if (lines > 0) this.log.append(lines, options.isUntidy && options.random() < 0.2 ? Math.floor(options.random() * 30) : 0)
    this.tendOld(nowMs)
    this.nextRotationMs ??= nowMs + options.rotateMs
    if (!this.isRotating || nowMs < this.nextRotationMs) return
    this.nextRotationMs = nowMs + options.rotateMs * (options.isUntidy ? 0.5 + options.random() : 1)
    this.rotate(nowMs)
    this.compressAndPrune(nowMs)
  }

  private rotate(nowMs: number): void {
    const { options } = this
    this.rotations += 1
    if (options.naming === 'shift') this.shift()
    const path = options.naming === 'shift' ? `${this.basePath}.1` : `${this.basePath}-${String(this.rotations).padStart(6, '0')}`
    if (options.how === 'copytruncate') {
      const incarnation = this.log.copyTruncate(path)
      if (incarnation !== undefined) this.rotated.unshift({ path, incarnation, atMs: nowMs, isCompressed: false })
      return
    }
    const renamed = this.log.renameTo(path)
    if (renamed === undefined) return
    this.rotated.unshift({ path, incarnation: renamed.incarnation, atMs: nowMs, isCompressed: false })
    // The program goes on with the renamed file for a moment before it opens a new one.
    renamed.old.append(1 + Math.floor(options.random() * 5))
    const lateMs = options.isUntidy && options.random() < 0.3 ? 200 + options.random() * 1500 : 0
    if (lateMs === 0) renamed.old.close()
    else this.old.push({ file: renamed.old, untilMs: nowMs + lateMs })
  }

  /** Oldest first, so that no name is overwritten. */
  private shift(): void {
    for (let index = this.rotated.length - 1; index >= 0; index -= 1) {
      const item = this.rotated[index]
      if (item === undefined) continue
      const path = `${this.basePath}.${index + 2}${item.isCompressed ? '.gz' : ''}`
      renameSync(item.path, path)
      item.path = path
    }
  }

  private tendOld(nowMs: number): void {
    for (const { file, untilMs } of this.old) {
      if (untilMs > nowMs) continue
      file.append(1 + Math.floor(this.options.random() * 3))
      file.close()
    }
    this.old = this.old.filter(({ untilMs }) => untilMs > nowMs)
  }

  private compressAndPrune(nowMs: number): void {
    const { gzipAfterMs, keep } = this.options
    for (const item of this.rotated) {
      if (gzipAfterMs === undefined || item.isCompressed || nowMs - item.atMs < gzipAfterMs) continue
      writeFileSync(`${item.path}.gz`, gzipSync(readFileSync(item.path), { level: 1 }))
      unlinkSync(item.path)
      item.path = `${item.path}.gz`
      item.isCompressed = true
      item.incarnation.destroyedAtMs = performance.now()
    }
    for (const item of this.rotated.splice(keep)) {
      unlinkSync(item.path)
      item.incarnation.destroyedAtMs ??= performance.now()
    }
  }

  finish(): void {
    for (const { file } of this.old) file.close()
    this.old = []
    this.log.finish()
    this.log.close()
  }
}

/** Files that appear late, in folders of their own too, get a few lines, may be renamed, and are deleted. */
export class ComingAndGoing implements Writer {
  private readonly options: WriterOptions & { readonly name: string; readonly everyMs: number }
  private files: { log: LogFile; path: string; folder: string; endsMs: number; removeMs: number }[] = []
  private count = 0
  private nextMs = 0

  constructor(options: WriterOptions & { readonly name: string; readonly everyMs: number }) {
    this.options = options
    mkdirSync(join(options.folder, options.name), { recursive: true })
  }

  tick(nowMs: number): void {
    const { random, everyMs, linesPerSecond } = this.options
    if (nowMs >= this.nextMs) {
      this.nextMs = nowMs + everyMs * (0.5 + random())
      this.add(nowMs)
    }
    for (const file of this.files) {
      if (nowMs < file.endsMs && random() < 0.2) file.log.append(1 + Math.floor((linesPerSecond / 20) * random()), random() < 0.3 ? 5 : 0)
      else if (nowMs >= file.endsMs) file.log.finish()
      if (nowMs >= file.removeMs) this.remove(file)
    }
    this.files = this.files.filter(({ removeMs }) => nowMs < removeMs)
  }

  private add(nowMs: number): void {
    const { folder, name, random } = this.options
    this.count += 1
    const hasOwnFolder = random() < 0.3
    const directory = hasOwnFolder ? join(folder, name, `sub-${this.count}`) : join(folder, name)
    mkdirSync(directory, { recursive: true })
    const path = join(directory, `late-${this.count}.log`)
    const log = new LogFile({ ...this.options, file: `${name}-${this.count}`, flavour: 'plain', path })
    log.append(1)
    const endsMs = nowMs + random() * 3000
    this.files.push({ log, path, folder: hasOwnFolder ? directory : '', endsMs, removeMs: endsMs + 45_000 + random() * 20_000 })
  }

  private remove(file: { log: LogFile; path: string; folder: string }): void {
    file.log.finish()
    file.log.remove()
    if (file.folder !== '' && existsSync(file.folder)) rmdirSync(file.folder)
  }

  finish(): void {
    for (const { log } of this.files) {
      log.finish()
      log.close()
    }
  }
}

/** A file that only grows: long lines, empty ones, bytes that are no text, writes that end anywhere. */
export class GrowingWriter implements Writer {
  readonly basePath: string
  private readonly log: LogFile
  private readonly options: WriterOptions

  constructor(options: WriterOptions & { readonly name: string; readonly flavour: Flavour }) {
    this.options = options
    const folder = join(options.folder, options.name)
    mkdirSync(folder, { recursive: true })
    this.basePath = join(folder, 'app.log')
    this.log = new LogFile({ ...options, file: options.name, path: this.basePath })
  }

  private lastTickMs: number | undefined
  private owedLines = 0

  tick(nowMs: number): void {
    const { random, linesPerSecond } = this.options
    this.owedLines += ((nowMs - (this.lastTickMs ?? nowMs)) / 1000) * linesPerSecond
    this.lastTickMs = nowMs
    const lines = Math.floor(this.owedLines)
    this.owedLines -= lines
    if (lines > 0) this.log.append(lines, Math.floor(random() * 200))
  }

  finish(): void {
    this.log.finish()
    this.log.close()
  }
}

/** Ticks all writers every 10 ms until told to stop. */
export class WriterLoop {
  private readonly writers: readonly Writer[]
  private timer: NodeJS.Timeout | undefined
  failure: unknown

  constructor(writers: readonly Writer[]) {
    this.writers = writers
  }

  start(): void {
    this.timer = setInterval(() => {
      try {
        for (const writer of this.writers) writer.tick(performance.now())
      } catch (error) {
        this.failure ??= error
        clearInterval(this.timer)
      }
    }, 10)
  }

  stop(): void {
    clearInterval(this.timer)
    for (const writer of this.writers) writer.finish()
    if (this.failure !== undefined) throw this.failure
  }
}
