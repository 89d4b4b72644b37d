/**
 * HDFS' own file checksum (MD5 of MD5s of CRC-32C), recomputed from local bytes, so that an upload is verified against
 * what the DataNodes stored without reading it back. Measured equal on Hadoop 3.5.0 and 3.4.2.
 *
 * Per block: MD5 over the big-endian CRC-32C of each `bytesPerCrc` bytes. Over the file: MD5 over the blocks' MD5s,
 * zero-padded to 32, 64, 128 … bytes, because Hadoop hashes the whole backing array of its buffer.
 *
 * | bytes of the answer | field |
 * |---|---|
 * | 4 | bytes per CRC |
 * | 8 | CRCs per block, 0 = the file has one block |
 * | 16 | MD5 |
 * | 4 | padding |
 */
import { createHash, type Hash } from 'node:crypto'
import { crc32c } from '../../shared/crc32c.ts'
import type { ByteSource, ContentHasher } from './remote-store.ts'

export interface ChecksumLayout {
  readonly bytesPerCrc: number
  /** undefined = one block. */
  readonly blockBytes: number | undefined
}

export interface HdfsChecksum extends ChecksumLayout {
  readonly md5: string
}

const CRCS_AT_ONCE = 2048
const algorithmPattern = /^MD5-of-(\d{1,15})MD5-of-(\d{1,9})CRC32C$/

/** undefined for every algorithm that can't be recomputed here; then the file has to be read back. */
export function parseHdfsChecksum(checksum: { algorithm: string; bytes: string }): HdfsChecksum | undefined {
  const [, crcsPerBlock, bytesPerCrc] = algorithmPattern.exec(checksum.algorithm) ?? []
  if (crcsPerBlock === undefined || !/^[0-9a-f]{56,64}$/i.test(checksum.bytes)) return undefined
  const perCrc = Number(bytesPerCrc)
  if (perCrc < 1 || perCrc > 1024 * 1024) return undefined
  const blockBytes = Number(crcsPerBlock) === 0 ? undefined : Number(crcsPerBlock) * perCrc
  return { bytesPerCrc: perCrc, blockBytes, md5: checksum.bytes.slice(24, 56).toLowerCase() }
}

/** The MD5 that HDFS would answer for these bytes, and their SHA-256, in one pass. */
export async function hdfsMd5(source: ByteSource, layout: ChecksumLayout): Promise<{ md5: string; sha256: string }> {
  const hasher = new Md5OfMd5s(layout)
  const sha256 = createHash('sha256')
  for await (const piece of source.peek?.() ?? source.open()) {
    hasher.update(piece)
    sha256.update(piece)
  }
  return { md5: hasher.digest(), sha256: sha256.digest('hex') }
}

/** As text that tells the layout too: checksums of different layouts can't be compared. */
export function formatChecksum({ bytesPerCrc, blockBytes, md5 }: HdfsChecksum): string {
  return `${layoutName({ bytesPerCrc, blockBytes })}${md5}`
}

/** Whether a text of `formatChecksum` can be held against a checksum of this layout. */
export function hasLayout(text: string, layout: ChecksumLayout): boolean {
  return text.startsWith(layoutName(layout))
}

function layoutName({ bytesPerCrc, blockBytes }: ChecksumLayout): string {
  return `${bytesPerCrc}/${blockBytes ?? 'file'}:`
}

/** The checksum that HDFS would give the bytes that go by, as `formatChecksum` writes it. */
export function checksumHasher(layout: ChecksumLayout): ContentHasher {
  const hasher = new Md5OfMd5s(layout)
  return {
    update: (piece) => hasher.update(piece),
    digest: () => formatChecksum({ ...layout, md5: hasher.digest() }),
  }
}

class Md5OfMd5s {
  private readonly bytesPerCrc: number
  private readonly blockBytes: number
  private readonly blockMd5s: Buffer[] = []
  /** Many at once: hashing four bytes at a time costs more than all the rest. */
  private readonly crcs = Buffer.alloc(4 * CRCS_AT_ONCE)
  private crcCount = 0
  private block: Hash = createHash('md5')
  private crc = 0
  private inCrc = 0
  private inBlock = 0

  constructor({ bytesPerCrc, blockBytes }: ChecksumLayout) {
    this.bytesPerCrc = bytesPerCrc
    this.blockBytes = blockBytes ?? Number.MAX_SAFE_INTEGER
  }

  update(piece: Uint8Array): void {
    for (let at = 0; at < piece.length; ) {
      // Blocks are whole numbers of CRCs, so the end of a CRC never lies behind the end of its block.
      const count = Math.min(piece.length - at, this.bytesPerCrc - this.inCrc)
      this.crc = crc32c(piece.subarray(at, at + count), this.crc)
      this.inCrc += count
      this.inBlock += count
      at += count
      if (this.inCrc === this.bytesPerCrc) this.endCrc()
      if (this.inBlock === this.blockBytes) this.endBlock()
    }
  }

  digest(): string {
    if (this.inCrc > 0) this.endCrc()
    if (this.inBlock > 0) this.endBlock()
    const bytes = this.blockMd5s.length * 16
    let padded = 32
    while (padded < bytes) padded *= 2
    return createHash('md5').update(Buffer.concat(this.blockMd5s, padded)).digest('hex')
  }

  private endCrc(): void {
    this.crcs.writeUInt32BE(this.crc, 4 * this.crcCount)
    this.crcCount += 1
    this.crc = 0
    this.inCrc = 0
    if (this.crcCount === CRCS_AT_ONCE) this.hashCrcs()
  }

  private hashCrcs(): void {
    this.block.update(this.crcs.subarray(0, 4 * this.crcCount))
    this.crcCount = 0
  }

  private endBlock(): void {
    this.hashCrcs()
    this.blockMd5s.push(this.block.digest())
    this.block = createHash('md5')
    this.inBlock = 0
  }
}
