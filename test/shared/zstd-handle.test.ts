import { randomBytes } from 'node:crypto'
import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { AppError } from '../../shared/errors.ts'
import { makeCodec } from '../../shared/zstd-handle.ts'
import { hasNativeZstd, loadZstd } from '../../shared/zstd.ts'

const MAX = 1024 * 1024
const proof = { input: Buffer.from('x'), outputBytes: 1, isRight: (output: Uint8Array) => output[0] === 0x78 }

test('a Node whose streams have no such handle gives no codec', () => {
  expect(makeCodec({ open: () => new PassThrough(), end: 2, proof })).toBeUndefined()
})

test('a handle that makes something else is not believed', () => {
  const stream = Object.assign(new PassThrough(), { _handle: { writeSync: () => undefined }, _writeState: new Uint32Array(2) })
  expect(makeCodec({ open: () => stream, end: 2, proof })).toBeUndefined()
})

test.runIf(hasNativeZstd())('good frames between broken ones are decoded, into the memory that was offered', async () => {
  const zstd = await loadZstd()
  const contents = [Buffer.alloc(1, 7), Buffer.alloc(300_000, 'tailrace '), Buffer.from('short'), Buffer.alloc(MAX, 'x')]
  const broken = Buffer.from(zstd.compressSync(Buffer.alloc(100_000, 'line after line '), 1))
  // Inside of the first block: its headers stay as they are.
  broken.fill(0xff, 12, 20)
  for (let round = 0; round < 3; round += 1) {
    for (const content of contents) {
      const memory = Buffer.alloc(MAX, 0xee)
      const decoded = zstd.decompressSync(zstd.compressSync(content, 1), MAX, (bytes) => memory.subarray(0, bytes))
      expect(decoded.equals(content)).toBe(true)
      expect(decoded.buffer).toBe(memory.buffer)
      expect(() => zstd.decompressSync(broken, MAX)).toThrow(AppError)
    }
  }
})

test.runIf(hasNativeZstd())('small frames of every size and level are whole, one after another from the same context', async () => {
  const zstd = await loadZstd()
  for (const level of [1, 9, -5]) {
    for (const bytes of [1, 17, 300, 5000, 65_535]) {
      for (const content of [Buffer.alloc(bytes, 'tailrace '), randomBytes(bytes)]) {
        const frame = await zstd.compress(content, { level, plainBytes: 0 }, (pieces) => Buffer.concat(pieces))
        expect(zstd.decompressSync(frame, MAX).equals(content)).toBe(true)
      }
    }
  }
})
