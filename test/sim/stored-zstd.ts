/**
 * zstd frames of raw blocks (RFC 8878 §3.1.1.2.2): valid for every decoder, made at once and the same on every Node. A
 * simulation of a thousand runs spends its time on order and faults, not on compression.
 */
import { AppError } from '../../shared/errors.ts'
import { parseFrame } from '../../shared/zstd-frame.ts'
import type { Zstd } from '../../shared/zstd.ts'

const BLOCK_BYTES = 128 * 1024
const HEADER_BYTES = 9

export function storedZstd(): Zstd {
  return {
    name: 'zstd-codec',
    compress: (raw, _options, use) => Promise.resolve(use([store(raw)])),
    compressSync: store,
    decompressSync: (frame, contentBytesMax) => {
      const { contentSize } = parseFrame(frame, contentBytesMax)
      const out = Buffer.concat(blocksOf(frame))
      if (out.length !== contentSize) throw new AppError('CORRUPT_MESSAGE', `frame holds ${out.length} bytes, says ${contentSize}`)
      return out
    },
    firstBlockSync: (frame, contentBytesMax) => {
      parseFrame(frame, contentBytesMax)
      return Buffer.from(blocksOf(frame)[0] ?? Buffer.alloc(0))
    },
  }
}

function store(raw: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt32LE(0xfd2fb528, 0)
  header.writeUInt8(0xa0, 4) // one segment, content size in four bytes
  header.writeUInt32LE(raw.length, 5)
  const pieces: Uint8Array[] = [header]
  for (let at = 0; at === 0 || at < raw.length; at += BLOCK_BYTES) {
    const block = raw.subarray(at, at + BLOCK_BYTES)
    const isLast = at + BLOCK_BYTES >= raw.length
    const head = Buffer.alloc(3)
    head.writeUIntLE((block.length << 3) | (isLast ? 1 : 0), 0, 3)
    pieces.push(head, block)
  }
  return Buffer.concat(pieces)
}

function blocksOf(frame: Uint8Array): Buffer[] {
  const view = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength)
  const blocks: Buffer[] = []
  for (let at = HEADER_BYTES, isLast = false; !isLast; ) {
    const word = view.readUIntLE(at, 3)
    if (((word >> 1) & 3) !== 0) throw new AppError('CORRUPT_MESSAGE', 'not a raw block')
    isLast = (word & 1) === 1
    blocks.push(view.subarray(at + 3, at + 3 + (word >> 3)))
    at += 3 + (word >> 3)
  }
  return blocks
}
