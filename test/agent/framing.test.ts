/** Lines to records and back: the source bytes must come out again, whatever they are. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { frameLines, type FrameOptions } from '../../agent/framing.ts'
import { RecordCursor } from '../../shared/record-batch.ts'
import { RecordsBuilder } from '../../shared/records-builder.ts'

const LINE_BYTES_MAX = 16

function frame(source: string | Buffer, options: Partial<FrameOptions> & { capacity?: number } = {}) {
  const window = Buffer.from(source)
  const { capacity, ...rest } = options
  const builder = new RecordsBuilder({ capacity: capacity ?? 64 * 1024, key: Buffer.from('h:/p'), sourceHeaderBytes: 0 })
  const framed = frameLines(builder, {
    window, from: 0, to: window.length, lineBytesMax: LINE_BYTES_MAX, sourceBytesMax: Number.MAX_SAFE_INTEGER, isFinal: false, timestampMs: 5, ...rest,
  })
  return { ...framed, records: builder.count === 0 ? [] : read(builder) }
}

function read(builder: RecordsBuilder): { value: Buffer; mark: string }[] {
  const { raw } = builder.finish(undefined)
  const cursor = new RecordCursor(raw)
  const records = []
  while (cursor.next()) records.push({ value: Buffer.from(raw.subarray(cursor.valueStart, cursor.valueEnd)), mark: cursor.mark() })
  return records
}

function texts(records: readonly { value: Buffer; mark: string }[]): string[] {
  return records.map(({ value, mark }) => `${value.toString('latin1')}|${mark}`)
}

function rebuild(records: readonly { value: Buffer; mark: string }[]): Buffer {
  return Buffer.concat(records.flatMap(({ value, mark }) => (mark === 'newline' ? [value, Buffer.from('\n')] : [value])))
}

describe('frameLines', () => {
  test('takes whole lines and leaves what has no newline', () => {
    const framed = frame('one\ntwo\nthr')
    expect(texts(framed.records)).toEqual(['one|newline', 'two|newline'])
    expect(framed.end).toBe(8)
  })

  test('keeps a carriage return, NUL and bytes that are not UTF-8', () => {
    const framed = frame(Buffer.from([0x61, 0x0d, 0x0a, 0x00, 0xff, 0xfe, 0x0a]))
    expect(framed.records.map(({ value }) => value.toString('hex'))).toEqual(['610d', '00fffe'])
  })

  test('empty lines are records', () => {
    expect(texts(frame('\n\na\n').records)).toEqual(['|newline', '|newline', 'a|newline'])
  })

  test('a line of exactly lineBytesMax is one record, one byte more makes a part', () => {
    expect(texts(frame(`${'x'.repeat(16)}\n`).records)).toEqual([`${'x'.repeat(16)}|newline`])
    expect(texts(frame(`${'x'.repeat(17)}\n`).records)).toEqual([`${'x'.repeat(16)}|part`, 'x|newline'])
  })

  test('a long line without newline is cut as soon as its bytes are there, and its rest waits', () => {
    const framed = frame('x'.repeat(40))
    expect(texts(framed.records)).toEqual([`${'x'.repeat(16)}|part`, `${'x'.repeat(16)}|part`])
    expect(framed.end).toBe(32)
  })

  test('the end of the file makes an eof record, unless there is nothing', () => {
    expect(texts(frame('one\ntwo', { isFinal: true }).records)).toEqual(['one|newline', 'two|eof'])
    expect(frame('one\n', { isFinal: true }).endsWithEof).toBe(false)
  })

  test('no file content at all makes no record', () => {
    expect(frame('', { isFinal: true })).toMatchObject({ end: 0, records: [] })
  })

  test('a full batch says so and ends before the line that does not fit', () => {
    const framed = frame('aaaaaaaa\nbbbbbbbb\n', { capacity: 30 })
    expect(framed).toMatchObject({ isFull: true, end: 9 })
  })

  test('any bytes, read in pieces of any size, come out as they were', () => {
    const bytes = fc.uint8Array({ minLength: 1, maxLength: 300 }).map((array) => Buffer.from(array.map((byte) => (byte % 7 === 0 ? 0x0a : byte))))
    fc.assert(
      fc.property(bytes, fc.integer({ min: 17, max: 80 }), (source, step) => {
        const pieces: Buffer[] = []
        let from = 0
        for (let turn = 0; turn < 1000 && from < source.length; turn += 1) {
          const to = Math.min(source.length, from + step)
          const framed = frame(source, { from, to, isFinal: to === source.length })
          pieces.push(rebuild(framed.records))
          from = framed.end
        }
        expect(Buffer.concat(pieces).equals(source)).toBe(true)
      }),
    )
  })
})
