/**
 * Reads exported files by blocks of 4 MiB: from memory, from the disk cache, else from the store by a ranged read, with
 * the next block fetched ahead while a reader goes through a file. Each range costs the store two connections, so blocks
 * are large, and a block that many ask for at once is fetched once.
 *
 * What is given is what the store gave: whoever reads checks it (a segment's batches by their CRC, an index by its
 * SHA-256) and calls `forget` when it is wrong. At most `FETCHES_MAX` blocks are on their way. Calls may run at the same
 * time.
 */
import { AppError, toAppError } from '../../shared/errors.ts'
import type { Counter, Metrics, ReadableFile, System } from '../../shared/system.ts'
import type { BlockCache } from './block-cache.ts'
import { ByteLru } from './byte-lru.ts'
import type { RemoteStore } from './remote-store.ts'

export interface ExportedFile {
  /** On the store, by layout.ts. */
  readonly path: string
  readonly lengthBytes: number
  readonly sha256: string
}

export interface ExportedFilesOptions {
  readonly store: Pick<RemoteStore, 'read'>
  /** undefined = blocks are kept in memory only. */
  readonly cache: BlockCache | undefined
}

export const BLOCK_BYTES = 4 * 1024 * 1024
const MEMORY_BYTES = 4 * BLOCK_BYTES
const FETCHES_MAX = 8
const AHEAD_MAX = 2
const PLACES_MAX = 256

interface ReadBackMetrics {
  readonly blocks: Counter
  readonly bytes: Counter
}

function declareMetrics(metrics: Metrics): ReadBackMetrics {
  return {
    blocks: metrics.counter('tailrace_collector_read_back_blocks_total', 'Blocks of exported files that were read, by where they came from.', ['from']),
    bytes: metrics.counter('tailrace_collector_read_back_bytes_total', 'Bytes read from the export store for readers.'),
  }
}

export class ExportedFiles {
  private readonly log: System['log']
  private readonly options: ExportedFilesOptions
  private readonly metrics: ReadBackMetrics
  private readonly memory = new ByteLru<Buffer>(MEMORY_BYTES)
  /** Which block of a file was read last, by anyone: who goes on from there gets the next one ahead. */
  private readonly places = new ByteLru<number>(PLACES_MAX)
  private readonly underWay = new Map<string, Promise<Buffer>>()
  private readonly waiting: (() => void)[] = []
  private fetches = 0
  private ahead = 0

  constructor(system: Pick<System, 'log' | 'metrics'>, options: ExportedFilesOptions) {
    this.log = system.log
    this.options = options
    this.metrics = declareMetrics(system.metrics)
  }

  open(file: ExportedFile): ReadableFile {
    return {
      read: async (target, { offset, length, position }) => {
        const wanted = Math.min(length, file.lengthBytes - position)
        if (wanted <= 0) return 0
        const index = Math.floor(position / BLOCK_BYTES)
        const bytes = await this.block(file, index)
        const last = this.places.get(file.sha256)
        if (index === last || index - 1 === last) this.fetchAhead(file, index + 1)
        this.places.set(file.sha256, index, 1)
        const from = position - index * BLOCK_BYTES
        return bytes.copy(target, offset, from, Math.min(bytes.length, from + wanted))
      },
    }
  }

  /** MESSAGE_TOO_LARGE above `bytesMax`. */
  async whole(file: ExportedFile, bytesMax: number): Promise<Buffer> {
    if (file.lengthBytes > bytesMax) throw new AppError('MESSAGE_TOO_LARGE', `${file.path} has ${file.lengthBytes} bytes, over ${bytesMax}`)
    const blocks: Buffer[] = []
    for (let index = 0; index * BLOCK_BYTES < file.lengthBytes; index += 1) blocks.push(await this.block(file, index))
    const [only] = blocks
    return blocks.length === 1 && only !== undefined ? only : Buffer.concat(blocks)
  }

  /** The next read asks the store again. */
  async forget(file: ExportedFile): Promise<void> {
    for (let index = 0; index * BLOCK_BYTES < file.lengthBytes; index += 1) {
      this.memory.delete(keyOf(file, index))
      await this.options.cache?.forget({ sha256: file.sha256, index })
    }
  }

  private block(file: ExportedFile, index: number): Promise<Buffer> {
    const key = keyOf(file, index)
    const held = this.memory.get(key)
    if (held !== undefined) {
      this.metrics.blocks.add(1, { from: 'memory' })
      return Promise.resolve(held)
    }
    const known = this.underWay.get(key)
    if (known !== undefined) return known
    const made = this.load(file, index).finally(() => this.underWay.delete(key))
    this.underWay.set(key, made)
    return made
  }

  private async load(file: ExportedFile, index: number): Promise<Buffer> {
    const offset = index * BLOCK_BYTES
    const length = Math.min(BLOCK_BYTES, file.lengthBytes - offset)
    const name = { sha256: file.sha256, index }
    const cached = await this.options.cache?.get(name, length)
    const bytes = cached ?? (await this.fetch(file, { offset, length }))
    this.metrics.blocks.add(1, { from: cached === undefined ? 'store' : 'disk' })
    this.memory.set(keyOf(file, index), bytes, bytes.length)
    if (cached === undefined) await this.options.cache?.put(name, bytes)
    return bytes
  }

  private async fetch(file: ExportedFile, range: { offset: number; length: number }): Promise<Buffer> {
    await this.enter()
    try {
      const bytes = Buffer.allocUnsafeSlow(range.length)
      let at = 0
      for await (const piece of this.options.store.read(file.path, range)) {
        if (at + piece.length > range.length) throw new AppError('REMOTE_ERROR', `${file.path}: the store gave more bytes than asked for`)
        bytes.set(piece, at)
        at += piece.length
      }
      if (at < range.length) throw new AppError('REMOTE_ERROR', `${file.path}: the store gave ${range.length - at} bytes too few`)
      this.metrics.bytes.add(at)
      return bytes
    } finally {
      this.leave()
    }
  }

  private fetchAhead(file: ExportedFile, index: number): void {
    const key = keyOf(file, index)
    if (index * BLOCK_BYTES >= file.lengthBytes || this.ahead >= AHEAD_MAX || this.underWay.has(key) || this.memory.get(key) !== undefined) return
    this.ahead += 1
    // Nobody waits for it: whoever reads on finds it, or meets the failure itself.
    void this.block(file, index)
      .catch((error: unknown) => this.log.debug('reading ahead failed', { file: file.path, error: toAppError(error).message }))
      .finally(() => (this.ahead -= 1))
  }

  /** Callers wait for their block, so there are as many in here as there are readers. */
  private async enter(): Promise<void> {
    if (this.fetches >= FETCHES_MAX) await new Promise<void>((resolve) => this.waiting.push(resolve))
    else this.fetches += 1
  }

  /** Hands its place on, so that nobody slips in between. */
  private leave(): void {
    const next = this.waiting.shift()
    if (next === undefined) this.fetches -= 1
    else next()
  }
}

function keyOf(file: ExportedFile, index: number): string {
  return `${file.sha256}/${index}`
}
