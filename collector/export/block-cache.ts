/**
 * A bounded folder of blocks that were read from the store, so that a query which is asked twice asks the store once.
 * A cache and nothing more: it may be deleted at any time, nothing in it is synced, and every failure of its own is a
 * block that is not there.
 *
 * One file a block, `<sha256 of the exported file>-<block index, 8 digits>.block`:
 *
 * | bytes | field |
 * |---|---|
 * | n | the block, as it came from the store |
 * | 4 | CRC-32C of it, big-endian: a torn or rotten file is no block |
 *
 * Exported files never change and are named by their contents here, so a block is never out of date. Calls may run at
 * the same time; two `put`s of one name must not.
 */
import { crc32c } from '../../shared/crc32c.ts'
import { toAppError } from '../../shared/errors.ts'
import { readWholeFile } from '../../shared/files.ts'
import type { System } from '../../shared/system.ts'
import { ensureDirectory, writeAll } from './local-file.ts'

export interface BlockName {
  /** SHA-256 of the whole exported file, lower-case hex. */
  readonly sha256: string
  readonly index: number
}

export interface BlockCacheOptions {
  readonly directory: string
  readonly bytesMax: number
}

type CacheSystem = Pick<System, 'fs' | 'log'>

const namePattern = /^([0-9a-f]{64})-(\d{8})\.block$/
const UNFINISHED = '.unfinished'
const CRC_BYTES = 4
const BLOCK_BYTES_MAX = 64 * 1024 * 1024
/** The log needs the disk more than this does. */
const FREE_BYTES_MIN = 512 * 1024 * 1024

function fileName({ sha256, index }: BlockName): string {
  return `${sha256}-${String(index).padStart(8, '0')}.block`
}

/** undefined when the folder can't be used: reading back then goes on without a cache. */
export async function openBlockCache(system: CacheSystem, options: BlockCacheOptions): Promise<BlockCache | undefined> {
  try {
    await ensureDirectory(system.fs, options.directory)
    return new BlockCache(system, options, await findBlocks(system, options.directory))
  } catch (error) {
    system.log.warn('blocks that are read back can not be kept', { directory: options.directory, error: toAppError(error).message })
    return undefined
  }
}

/** Sizes by file name, those not used for longest first. */
async function findBlocks({ fs }: CacheSystem, directory: string): Promise<Map<string, number>> {
  const found: { name: string; size: number; mtimeMs: number }[] = []
  for (const { name } of await fs.list(directory)) {
    const isUnfinished = name.endsWith(UNFINISHED) && namePattern.test(name.slice(0, -UNFINISHED.length))
    if (isUnfinished) await fs.remove(`${directory}/${name}`)
    if (!namePattern.test(name)) continue
    const stat = await fs.stat(`${directory}/${name}`)
    if (stat !== undefined) found.push({ name, size: stat.size, mtimeMs: stat.mtimeMs })
  }
  return new Map(found.sort((a, b) => a.mtimeMs - b.mtimeMs).map(({ name, size }) => [name, size]))
}

export class BlockCache {
  private readonly system: CacheSystem
  private readonly options: BlockCacheOptions
  /** In order of use. */
  private readonly sizes: Map<string, number>
  private bytes = 0

  constructor(system: CacheSystem, options: BlockCacheOptions, sizes: Map<string, number>) {
    this.system = system
    this.options = options
    this.sizes = sizes
    for (const size of sizes.values()) this.bytes += size
  }

  get usedBytes(): number {
    return this.bytes
  }

  /** Only a block of exactly this length counts. */
  async get(block: BlockName, lengthBytes: number): Promise<Buffer | undefined> {
    const name = fileName(block)
    const size = this.sizes.get(name)
    if (size === undefined) return undefined
    try {
      const bytes = await readWholeFile(this.system.fs, this.path(name), BLOCK_BYTES_MAX + CRC_BYTES)
      const content = bytes.subarray(0, Math.max(0, bytes.length - CRC_BYTES))
      if (content.length === lengthBytes && bytes.length === lengthBytes + CRC_BYTES && crc32c(content) === bytes.readUInt32BE(lengthBytes)) {
        this.touch(name, size)
        return content
      }
      this.system.log.warn('a cached block is damaged', { block: name })
    } catch (error) {
      this.system.log.debug('a cached block can not be read', { block: name, error: toAppError(error).message })
    }
    await this.forget(block)
    return undefined
  }

  /** Keeps the block where there is room. Never rejects. */
  async put(block: BlockName, bytes: Buffer): Promise<void> {
    const name = fileName(block)
    const size = bytes.length + CRC_BYTES
    if (this.sizes.has(name) || size > this.options.bytesMax || bytes.length > BLOCK_BYTES_MAX) return
    try {
      if ((await this.system.fs.freeBytes(this.options.directory)) < FREE_BYTES_MIN + size) return
      await this.makeRoom(size)
      await this.write(name, bytes)
      this.sizes.set(name, size)
      this.bytes += size
    } catch (error) {
      this.system.log.debug('a block was not kept', { block: name, error: toAppError(error).message })
    }
  }

  async forget(block: BlockName): Promise<void> {
    await this.remove(fileName(block))
  }

  private async makeRoom(size: number): Promise<void> {
    for (const name of this.sizes.keys()) {
      if (this.bytes + size <= this.options.bytesMax) return
      await this.remove(name)
    }
  }

  private async write(name: string, bytes: Buffer): Promise<void> {
    const { fs } = this.system
    const unfinished = this.path(`${name}${UNFINISHED}`)
    const file = await fs.open(unfinished, 'truncateWrite')
    try {
      const trailer = Buffer.alloc(CRC_BYTES)
      trailer.writeUInt32BE(crc32c(bytes))
      await writeAll(file, bytes, 0)
      await writeAll(file, trailer, bytes.length)
    } finally {
      await file.close()
    }
    await fs.rename(unfinished, this.path(name))
  }

  private async remove(name: string): Promise<void> {
    const size = this.sizes.get(name)
    if (size === undefined) return
    this.sizes.delete(name)
    this.bytes -= size
    try {
      await this.system.fs.remove(this.path(name))
    } catch (error) {
      // Somebody emptied the folder: that is allowed.
      this.system.log.debug('a cached block was gone', { block: name, error: toAppError(error).message })
    }
  }

  private touch(name: string, size: number): void {
    if (this.sizes.delete(name)) this.sizes.set(name, size)
  }

  private path(name: string): string {
    return `${this.options.directory}/${name}`
  }
}
