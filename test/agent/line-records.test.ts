/** Records that are appended many at a time are those that are appended one by one, byte for byte. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { frameLines, type Framed } from '../../agent/framing.ts'
import { compileLineRecords, LineRecords } from '../../agent/line-records.ts'
import { RecordsBuilder } from '../../shared/records-builder.ts'

const WINDOW_BYTES = 256 * 1024
const module = compileLineRecords()

interface Turn {
  readonly text: Buffer
  readonly from: number
  readonly capacity: number
  readonly key: Buffer
  readonly lineBytesMax: number
  readonly sourceBytesMax: number
  readonly isFinal: boolean
}

/** What stands before, between and behind the buffers must not matter: it is filled with newlines. */
function frameBoth(turn: Turn): void {
  if (module === undefined) throw new Error('this machine has no WebAssembly with vectors')
  const lines = new LineRecords(module, { windowBytes: WINDOW_BYTES, recordsBytes: WINDOW_BYTES })
  Buffer.from(lines.window.buffer).fill(0x0a)
  const plain = frame(turn, Buffer.alloc(WINDOW_BYTES, 0x0a), undefined)
  const fast = frame(turn, lines.window, lines)
  expect(fast.framed).toEqual(plain.framed)
  expect(fast.count).toBe(plain.count)
  expect(fast.records.equals(plain.records)).toBe(true)
}

function frame(turn: Turn, window: Buffer, lines: LineRecords | undefined): { framed: Framed; count: number; records: Buffer } {
  turn.text.copy(window)
  const buffer = lines?.records ?? Buffer.alloc(WINDOW_BYTES)
  const builder = new RecordsBuilder({ capacity: turn.capacity, key: turn.key, sourceHeaderBytes: 0, buffer, lines })
  const { from, lineBytesMax, sourceBytesMax, isFinal } = turn
  const framed = frameLines(builder, { window, from, to: turn.text.length, lineBytesMax, sourceBytesMax, isFinal, timestampMs: 1000 })
  return { framed, count: builder.count, records: Buffer.from(buffer.subarray(0, builder.sizeBytes)) }
}

const anyLine = fc.tuple(fc.oneof(fc.nat(40), fc.constantFrom(15, 16, 17, 127, 128), fc.nat(3000), fc.nat(70_000)), fc.constantFrom(0x61, 0x00, 0xff, 0x0b)).map(([length, byte]) => Buffer.alloc(length, byte))
const anyTurn: fc.Arbitrary<Turn> = fc.record({
  text: fc.tuple(fc.array(anyLine, { maxLength: 200 }), fc.nat(50)).map(([lines, rest]) => {
    return Buffer.concat([...lines.flatMap((line) => [line, Buffer.from('\n')]), Buffer.alloc(rest, 0x62)]).subarray(0, WINDOW_BYTES)
  }),
  from: fc.nat(100),
  capacity: fc.constantFrom(WINDOW_BYTES, 64, 1000, 30_000),
  key: fc.constantFrom(0, 1, 15, 16, 63, 64, 300, 9000).map((length) => Buffer.alloc(length, 0x6b)),
  lineBytesMax: fc.constantFrom(512 * 1024, 10, 100),
  sourceBytesMax: fc.constantFrom(Number.MAX_SAFE_INTEGER, 0, 1000, 20_000),
  isFinal: fc.boolean(),
}).map((turn) => ({ ...turn, from: Math.min(turn.from, turn.text.length) }))

const ordinary: Turn = { text: Buffer.alloc(0), from: 0, capacity: WINDOW_BYTES, key: Buffer.from('h:/p'), lineBytesMax: 512 * 1024, sourceBytesMax: Number.MAX_SAFE_INTEGER, isFinal: false }

test('the code is what its source assembles to', () => {
  const at = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
  const assembled = execFileSync(process.execPath, [at('packaging/assemble.mjs'), '--print'], { encoding: 'utf8' })
  expect(readFileSync(at('agent/line-records-wasm.ts'), 'utf8')).toBe(assembled)
})

describe('many at a time', () => {
  test.each([
    ['no byte', ''], ['empty lines', '\n\n\n\n'], ['one line', 'one\n'], ['a line without an end', 'one\ntwo\nthr'],
    ['lengths around that of a vector', `${Array.from({ length: 50 }, (_, length) => 'x'.repeat(length)).join('\n')}\n`],
    ['record numbers of one, two and three bytes', 'x\n'.repeat(9000)],
    ['a window that is full', 'x'.repeat(63).concat('\n').repeat(WINDOW_BYTES / 64)],
    ['a window that ends within a line', 'x'.repeat(60).concat('\n').repeat(5000).slice(0, WINDOW_BYTES)],
  ])('%s', (_what, text) => frameBoth({ ...ordinary, text: Buffer.from(text), key: Buffer.alloc(0) }))

  test('records that fill the buffer to its last byte, and one byte less', () => {
    const text = Buffer.from('0123456789\n'.repeat(100))
    for (let capacity = 200; capacity < 260; capacity += 1) frameBoth({ ...ordinary, text, capacity })
  })

  test('any lines, keys and limits', () => {
    fc.assert(fc.property(anyTurn, frameBoth), { numRuns: 500 })
  })
})

test('a range that is not in the window is refused before the code runs', () => {
  if (module === undefined) throw new Error('this machine has no WebAssembly with vectors')
  const lines = new LineRecords(module, { windowBytes: 1024, recordsBytes: 1024 })
  const at = { out: 0, limit: 1024, keyBytes: 0, count: 1 }
  expect(() => lines.append(lines.window, { from: 0, stop: 2000, to: 2000, lineBytesMax: 100 }, at)).toThrow('lines lie in the window')
  expect(() => lines.append(lines.window, { from: 0, stop: 10, to: 10, lineBytesMax: 100 }, { ...at, limit: 1025 })).toThrow('records fit')
  expect(() => lines.append(Buffer.alloc(1024), { from: 0, stop: 10, to: 10, lineBytesMax: 100 }, at)).toThrow('the window they were read into')
})
