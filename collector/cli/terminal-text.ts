/**
 * Log text is hostile: on a terminal, control characters can rewrite what was printed before, and bidirectional marks
 * can reorder it (CVE-2021-25743, CVE-2021-42574). Here they become visible escapes. Only for terminals and for tables;
 * what goes into a pipe keeps its bytes.
 */

/** Longer lines are cut on a terminal: nobody reads them there, and they make terminals crawl. */
const TERMINAL_LINE_BYTES_MAX = 8192

/** C0 but for the tab, DEL, C1, line and paragraph separators, and the marks and overrides of the bidi algorithm. */
const unsafe = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]/u
const unsafeAll = new RegExp(unsafe.source, 'gu')

/** `\x1b` for what fits a byte, `\u202e` for the rest. */
export function visibleText(text: string): string {
  return unsafe.test(text) ? text.replace(unsafeAll, escapeCharacter) : text
}

function escapeCharacter(character: string): string {
  const code = character.codePointAt(0) ?? 0
  return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`
}

/** Bytes that may not be UTF-8: what is not becomes `\xNN`, byte for byte. */
export function visibleBytes(bytes: Buffer): string {
  let out = ''
  let validFrom = 0
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at)
    if (length > 0) {
      at += length
      continue
    }
    out += visibleText(bytes.toString('utf8', validFrom, at))
    out += `\\x${(bytes[at] ?? 0).toString(16).padStart(2, '0')}`
    at += 1
    validFrom = at
  }
  return out + visibleText(bytes.toString('utf8', validFrom))
}

/** Length of the well-formed UTF-8 sequence at `at`, 0 when there is none. Unicode 15, table 3-7. */
function sequenceLength(bytes: Buffer, at: number): number {
  const lead = bytes[at] ?? 0
  if (lead < 0x80) return 1
  if (lead < 0xc2 || lead > 0xf4) return 0
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4
  const second = bytes[at + 1] ?? 0
  const lowest = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80
  const highest = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf
  if (second < lowest || second > highest) return 0
  for (let index = 2; index < length; index += 1) {
    const byte = bytes[at + index] ?? 0
    if (byte < 0x80 || byte > 0xbf) return 0
  }
  return length
}

/** One line for a terminal: cut, and without anything that a terminal obeys. */
export function terminalLine(bytes: Buffer): string {
  if (bytes.length <= TERMINAL_LINE_BYTES_MAX) return visibleBytes(bytes)
  let end = TERMINAL_LINE_BYTES_MAX
  // Not in the middle of a character: step back over at most three continuation bytes.
  while (end > TERMINAL_LINE_BYTES_MAX - 4 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1
  return `${visibleBytes(bytes.subarray(0, end))}…(+${bytes.length - end} B)`
}

/** A JSON text for a terminal: still the same JSON, with the escapes that JSON has. */
export function visibleJson(json: string): string {
  return unsafe.test(json) ? json.replace(unsafeAll, escapeInJson) : json
}

function escapeInJson(character: string): string {
  return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`
}

export interface ColorFacts {
  readonly isTty: boolean
  readonly env: Readonly<Record<string, string | undefined>>
}

/** Colour only for a terminal that wants it (https://no-color.org: set and not empty). */
export function wantsColor(facts: ColorFacts): boolean {
  return facts.isTty && (facts.env['NO_COLOR'] ?? '') === '' && facts.env['TERM'] !== 'dumb'
}
