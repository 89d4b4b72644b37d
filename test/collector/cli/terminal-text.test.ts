import { expect, test } from 'vitest'
import { terminalLine, visibleBytes, visibleJson, visibleText, wantsColor } from '../../../collector/cli/terminal-text.ts'

test.each([
  ['colour', '\x1b[31mred\x1b[0m', '\\x1b[31mred\\x1b[0m'],
  ['title', '\x1b]0;owned\x07', '\\x1b]0;owned\\x07'],
  ['carriage return that overwrites', 'secret\rpublic', 'secret\\x0dpublic'],
  ['newline', 'a\nb', 'a\\x0ab'],
  ['backspace', 'ab\b\b', 'ab\\x08\\x08'],
  ['NUL and DEL', 'a\0b\x7f', 'a\\x00b\\x7f'],
  ['8-bit CSI', 'a\u009b31m', 'a\\x9b31m'],
  ['right-to-left override', 'a\u202eb', 'a\\u202eb'],
  ['isolates', '\u2066x\u2069', '\\u2066x\\u2069'],
  ['line separator', 'a\u2028b', 'a\\u2028b'],
])('%s is shown, not obeyed', (_name, hostile, shown) => {
  expect(visibleText(hostile)).toBe(shown)
  expect(visibleBytes(Buffer.from(hostile))).toBe(shown)
})

test('ordinary text of any script, tabs and emoji stay as they are', () => {
  const text = 'tab\there, žluťoučký, 日本語, עברית, 👩‍👩‍👧 ok'
  expect(visibleText(text)).toBe(text)
  expect(visibleBytes(Buffer.from(text))).toBe(text)
})

test.each([
  ['lone continuation', [0x61, 0x80, 0x62], 'a\\x80b'],
  ['overlong slash', [0xc0, 0xaf], '\\xc0\\xaf'],
  ['surrogate', [0xed, 0xa0, 0x80], '\\xed\\xa0\\x80'],
  ['above U+10FFFF', [0xf4, 0x90, 0x80, 0x80], '\\xf4\\x90\\x80\\x80'],
  ['cut character', [0x61, 0xe2, 0x82], 'a\\xe2\\x82'],
  ['latin-1', [0x67, 0x72, 0xfc, 0xdf, 0x65], 'gr\\xfc\\xdfe'],
])('bytes that are no UTF-8 (%s) are shown byte for byte', (_name, bytes, shown) => {
  expect(visibleBytes(Buffer.from(bytes))).toBe(shown)
})

test('every single byte gives something that a terminal does not obey', () => {
  for (let byte = 0; byte < 256; byte += 1) {
    expect(visibleBytes(Buffer.from([byte]))).toMatch(/^[^\x00-\x08\x0a-\x1f\x7f-\x9f]+$/)
  }
})

test('a long line is cut between characters and says how much is left', () => {
  const shown = terminalLine(Buffer.from('é'.repeat(5000)))
  expect(shown.startsWith('é'.repeat(4095))).toBe(true)
  expect(shown).toMatch(/é…\(\+1808 B\)$/)
  expect(terminalLine(Buffer.alloc(8192, 0x61))).toBe('a'.repeat(8192))
  expect(terminalLine(Buffer.alloc(9000, 0x80)).startsWith('\\x80')).toBe(true)
})

test('JSON for a terminal is the same JSON', () => {
  const value = { line: 'a\u009bb\u202ec\x7f' }
  const shown = visibleJson(JSON.stringify(value))
  expect(shown).not.toMatch(/[\u007f-\u009f\u202e]/)
  expect(JSON.parse(shown)).toEqual(value)
})

test('colour only on a terminal that wants it', () => {
  expect(wantsColor({ isTty: true, env: {} })).toBe(true)
  expect(wantsColor({ isTty: true, env: { NO_COLOR: '' } })).toBe(true)
  expect(wantsColor({ isTty: true, env: { NO_COLOR: '1' } })).toBe(false)
  expect(wantsColor({ isTty: true, env: { TERM: 'dumb' } })).toBe(false)
  expect(wantsColor({ isTty: false, env: {} })).toBe(false)
})
