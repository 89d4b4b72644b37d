/** One line on stderr that tells how far long work is. Only on a terminal; elsewhere it does nothing. */
import type { CliContext } from './context.ts'
import { Output } from './output.ts'
import { visibleText } from './terminal-text.ts'

const INTERVAL_MS = 200
const CLEAR_LINE = '\r\x1b[K'

export class Progress {
  private readonly output: Output
  private readonly isShown: boolean
  private readonly monotonicMs: () => number
  private dueMs: number
  private isOnScreen = false

  /** `alsoOnTty`: stdout goes elsewhere or stays empty, so the line can't get between printed ones. */
  constructor(context: CliContext, options: { alsoOnTty: boolean }) {
    this.output = new Output(context.stderr)
    this.isShown = context.stderr.isTty && context.env['TERM'] !== 'dumb' && (options.alsoOnTty || !context.stdout.isTty)
    this.monotonicMs = () => context.system.clock.monotonicMs()
    this.dueMs = this.monotonicMs() + INTERVAL_MS
  }

  /** Cheap: `text` is called only when a new line is due. */
  async update(text: () => string): Promise<void> {
    if (!this.isShown || this.monotonicMs() < this.dueMs) return
    this.dueMs = this.monotonicMs() + INTERVAL_MS
    this.isOnScreen = true
    this.output.put(`${CLEAR_LINE}${visibleText(text())}`)
    await this.output.flush()
  }

  async clear(): Promise<void> {
    if (!this.isOnScreen) return
    this.isOnScreen = false
    this.output.put(CLEAR_LINE)
    await this.output.flush()
  }
}
