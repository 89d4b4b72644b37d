import fc from 'fast-check'
import { beforeAll, expect, test } from 'vitest'
import { splitBatches } from '../../../collector/export/batch-stream.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { plainBatch } from '../../sealed-batch.ts'
import { codeOf } from './remote-store-contract.ts'

let batches: Buffer[]
beforeAll(async () => {
  const zstd = await loadZstd()
  batches = [1, 40, 3, 500, 2].map((lines, at) => plainBatch({ zstd, lines: Array.from({ length: lines }, (_each, line) => `${at} ${line}`) }))
})

/** In pieces of these sizes, each overwritten when the next but three is asked for, as a reader of files does. */
async function* cut(bytes: Buffer, sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  const buffers = [0, 1, 2, 3].map(() => Buffer.alloc(Math.max(...sizes)))
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = Math.min(sizes[turn % sizes.length] ?? 1, bytes.length - at)
    const target = (buffers[turn % 4] ?? Buffer.alloc(0)).fill(0xee).subarray(0, size)
    bytes.copy(target, 0, at, at + size)
    at += size
    yield target
  }
}

async function split(pieces: AsyncIterable<Uint8Array>): Promise<Buffer[]> {
  const found: Buffer[] = []
  for await (const batch of splitBatches(pieces, { isKept: false })) found.push(Buffer.from(batch))
  return found
}

test('the batches come out whole, however the bytes are cut', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 6 }), async (sizes) => {
      expect(await split(cut(Buffer.concat(batches), sizes))).toEqual(batches)
    }),
  )
})

test('batches that are kept stay as they are', async () => {
  const found: Buffer[] = []
  const whole = async function* (): AsyncGenerator<Uint8Array> {
    const all = Buffer.concat(batches)
    for (let at = 0; at < all.length; at += 300) yield all.subarray(at, at + 300)
  }
  for await (const batch of splitBatches(whole(), { isKept: true })) found.push(batch)
  expect(found).toEqual(batches)
})

test('what is cut, or says an impossible length, is damaged', async () => {
  const all = Buffer.concat(batches)
  for (const lengthBytes of [1, 11, 12, 60, all.length - 1]) expect(await codeOf(split(cut(all.subarray(0, lengthBytes), [97])))).toBe('CORRUPT_DATA')
  const wrong = Buffer.from(all)
  wrong.writeInt32BE(2 ** 30, (batches[0]?.length ?? 0) + 8)
  expect(await codeOf(split(cut(wrong, [97])))).toBe('CORRUPT_DATA')
})
