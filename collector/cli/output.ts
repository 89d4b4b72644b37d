/**
 * Buffered writing to one output stream. `put` is synchronous, so that a loop over a million lines waits only when a
 * block is full; the loop calls `flush` whenever `isFull`. One writer at a time.
 */
import type { OutputSink } from './context.ts'
import { visibleText } from './terminal-text.ts'

const BLOCK_BYTES = 64 * 1024

export class Output {
  readonly isTty: boolean
  private readonly sink: OutputSink
  private pieces: Uint8Array[] = []
  private text = ''
  private sizeBytes = 0

  constructor(sink: OutputSink) {
    this.sink = sink
    this.isTty = sink.isTty
  }

  get isFull(): boolean {
    return this.sizeBytes + this.text.length >= BLOCK_BYTES
  }

  put(text: string): void {
    this.text += text
  }

  /** The bytes must not change before the next flush. */
  putBytes(bytes: Uint8Array): void {
    this.takeText()
    this.pieces.push(bytes)
    this.sizeBytes += bytes.length
  }

  async flush(): Promise<void> {
    this.takeText()
    if (this.pieces.length === 0) return
    const only = this.pieces.length === 1 ? this.pieces[0] : undefined
    const block = only ?? Buffer.concat(this.pieces)
    this.pieces = []
    this.sizeBytes = 0
    await this.sink.write(block)
  }

  /** Writes a line at once. `text` may come from anywhere: a terminal gets it escaped. */
  async line(text: string): Promise<void> {
    this.put(`${this.isTty ? visibleText(text) : text}\n`)
    await this.flush()
  }

  private takeText(): void {
    if (this.text === '') return
    const bytes = Buffer.from(this.text, 'utf8')
    this.text = ''
    this.pieces.push(bytes)
    this.sizeBytes += bytes.length
  }
}
