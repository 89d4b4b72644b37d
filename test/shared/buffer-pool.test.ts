import { expect, test } from 'vitest'
import { BufferPool } from '../../shared/buffer-pool.ts'

const KIB = 1024

test('a buffer that came back is given out again, for any size of its class', () => {
  const buffers = new BufferPool(1024 * KIB)
  const first = buffers.take(200 * KIB)
  buffers.give(first)
  const second = buffers.take(130 * KIB)
  expect(second.buffer).toBe(first.buffer)
  expect(second.length).toBe(130 * KIB)
  expect(buffers.take(130 * KIB).buffer).not.toBe(first.buffer)
})

test('two buffers in use never share memory', () => {
  const buffers = new BufferPool(1024 * KIB)
  const made = Array.from({ length: 8 }, () => buffers.take(100 * KIB))
  for (const buffer of made) buffers.give(buffer)
  const again = Array.from({ length: 8 }, () => buffers.take(100 * KIB))
  expect(new Set(again.map((buffer) => buffer.buffer)).size).toBe(8)
})

test('what did not come from here is never given out: small batches, foreign buffers', () => {
  const buffers = new BufferPool(1024 * KIB)
  const small = buffers.take(100)
  const foreign = Buffer.allocUnsafeSlow(256 * KIB)
  buffers.give(small)
  buffers.give(foreign)
  expect(buffers.take(256 * KIB).buffer).not.toBe(foreign.buffer)
  expect(buffers.take(100).length).toBe(100)
})

test('no more is kept than the bound, and nothing after a trim', () => {
  const buffers = new BufferPool(256 * KIB)
  const [first, second] = [buffers.take(256 * KIB), buffers.take(256 * KIB)]
  buffers.give(first)
  buffers.give(second)
  expect(buffers.take(256 * KIB).buffer).toBe(first.buffer)
  expect(buffers.take(256 * KIB).buffer).not.toBe(second.buffer)
  buffers.give(first)
  buffers.trim()
  expect(buffers.take(256 * KIB).buffer).not.toBe(first.buffer)
})
