/**
 * The records of ordinary lines, many in one call: a line that ends with a newline, is not over the limit and is not the
 * first of its batch. A call into V8's own library for each line's end and copy costs 105 ns a line, this 22 (measured,
 * lines of 200 bytes). All others, and machines without WebAssembly or its vectors, go through RecordsBuilder.
 *
 * The code is line-records.wat; `line-records-wasm.ts` is what it assembles to, and a test holds the two together. Both
 * buffers of a turn lie in the one memory that it reaches:
 *
 * | | bytes |
 * |---|---|
 * | window | `windowBytes` |
 * | room for reads behind it | 16 |
 * | records | `recordsBytes` |
 * | room for writes behind them | 16 |
 * | record key behind its length | up to 8 KiB, with room |
 */
import { assert } from '../shared/errors.ts'
import type { LineAppender, LineRange } from '../shared/records-builder.ts'
import { LINE_RECORDS_WASM } from './line-records-wasm.ts'

const VECTOR_BYTES = 16
const KEY_BYTES_MAX = 8 * 1024
const PAGE_BYTES = 64 * 1024

interface Exports {
  append(from: number, stop: number, to: number, lineBytesMax: number, out: number, limit: number, key: number, keyBytes: number, count: number): number
  readonly at: WasmGlobal
  readonly count: WasmGlobal
}

/** undefined on a machine that can't run it. */
export function compileLineRecords(): WebAssembly.Module | undefined {
  const code = Buffer.from(LINE_RECORDS_WASM, 'base64')
  return typeof WebAssembly === 'object' && WebAssembly.validate(code) ? new WebAssembly.Module(code) : undefined
}

export class LineRecords implements LineAppender {
  readonly window: Buffer
  readonly records: Buffer
  private readonly recordsAt: number
  private readonly key: Buffer
  private readonly exports: Exports

  constructor(module: WebAssembly.Module, { windowBytes, recordsBytes }: { windowBytes: number; recordsBytes: number }) {
    this.recordsAt = windowBytes + VECTOR_BYTES
    const keyAt = this.recordsAt + recordsBytes + VECTOR_BYTES
    const pages = Math.ceil((keyAt + KEY_BYTES_MAX + VECTOR_BYTES) / PAGE_BYTES)
    // Never grown: that would detach the views.
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    this.window = Buffer.from(memory.buffer, 0, windowBytes)
    this.records = Buffer.from(memory.buffer, this.recordsAt, recordsBytes)
    this.key = Buffer.from(memory.buffer, keyAt, KEY_BYTES_MAX)
    this.exports = new WebAssembly.Instance(module, { slot: { memory } }).exports as Exports
  }

  takes(keyField: Buffer): boolean {
    if (keyField.length > KEY_BYTES_MAX) return false
    this.key.set(keyField)
    return true
  }

  append(source: Buffer, { from, stop, to, lineBytesMax }: LineRange, at: { out: number; limit: number; keyBytes: number; count: number }): number {
    // The caller's word would not do: the code knows no bounds but these.
    assert(source.buffer === this.window.buffer && source.byteOffset === 0, 'lines are framed in the window they were read into')
    assert(from >= 0 && from <= stop && stop <= to && to <= this.window.length, 'lines lie in the window')
    assert(at.out >= 0 && at.limit <= this.records.length && at.keyBytes <= KEY_BYTES_MAX, 'records fit their buffer')
    const { recordsAt, exports, key } = this
    return exports.append(from, stop, to, lineBytesMax, recordsAt + at.out, recordsAt + at.limit, key.byteOffset, at.keyBytes, at.count) - recordsAt
  }

  get sourceAt(): number {
    return this.exports.at.value
  }

  get recordCount(): number {
    return this.exports.count.value
  }
}
