/** Server-sent events as `GET /v1/tail` sends them. Retry fields are ignored: reconnecting is the caller's. */
import { lineBlocks } from './line-blocks.ts'

const LINE_BYTES_MAX = 64 * 1024 * 1024

export interface ServerEvent {
  /** undefined for the default type. */
  readonly type: string | undefined
  /** Of this event or of the last one that had any. */
  readonly id: string | undefined
  readonly data: string
}

/** All events that one block of the body completed, so that a caller can write them in one go. */
export async function* eventBlocks(body: AsyncIterable<Uint8Array>): AsyncGenerator<readonly ServerEvent[]> {
  let id: string | undefined
  let type: string | undefined
  let data: string[] = []
  for await (const block of lineBlocks(body, LINE_BYTES_MAX)) {
    const events: ServerEvent[] = []
    const lines = block.toString('utf8').split('\n')
    lines.pop() // what stands behind the last newline: nothing, or an event that was cut off
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw
      if (line === '') {
        if (data.length > 0) events.push({ type, id, data: data.join('\n') })
        type = undefined
        data = []
        continue
      }
      const { field, value } = splitField(line)
      if (field === 'data') data.push(value)
      else if (field === 'id') id = value
      else if (field === 'event') type = value
    }
    if (events.length > 0) yield events
  }
}

/** A line that begins with a colon is a comment: its field is empty. */
function splitField(line: string): { field: string; value: string } {
  const colon = line.indexOf(':')
  if (colon < 0) return { field: line, value: '' }
  const value = line.slice(colon + 1)
  return { field: line.slice(0, colon), value: value.startsWith(' ') ? value.slice(1) : value }
}
