import { describe, expect, test } from 'vitest'
import { parseCursor, formatCursor } from '../../../collector/query/cursor.ts'
import { compileGlobs } from '../../../collector/query/glob.ts'
import { JsonText } from '../../../shared/json-text.ts'
import fc from 'fast-check'

describe('globs', () => {
  const cases: readonly (readonly [string, string, boolean])[] = [
    ['web-*', 'web-1', true],
    ['web-*', 'db-1', false],
    ['web-?', 'web-12', false],
    ['/var/log/*.log', '/var/log/a.log', true],
    ['/var/log/*.log', '/var/log/nginx/a.log', false],
    ['/var/log/**/*.log', '/var/log/nginx/x/a.log', true],
    ['/var/log/**/*.log', '/var/log/a.log', true],
    ['/var/**', '/var/log/.hidden', true],
    ['**/a.log', 'x/y/a.log', true],
    ['*.{log,txt}', 'a.txt', true],
    ['*.{log,txt}', 'a.gz', false],
    ['a[0-9]', 'a5', true],
    ['a[!0-9]', 'a5', false],
    ['a[]]', 'a]', true],
    ['a\\*', 'a*', true],
    ['a\\*', 'ab', false],
    ['a.b', 'axb', false],
    ['a+(b)', 'a+(b)', true],
  ]
  test.each(cases)('%s on %s: %s', (glob, name, wanted) => {
    expect(compileGlobs([glob])(name)).toBe(wanted)
  })

  test('without a slash are held against the last component of a path', () => {
    const matches = compileGlobs(['access.log', 'err*'], { lastComponent: true })
    expect(['/var/log/access.log', '/var/error.log', '/access.log/x'].map(matches)).toEqual([true, true, false])
  })

  test('of thirty stars answer at once', () => {
    expect(compileGlobs([`${'*a'.repeat(30)}b`])('a'.repeat(4000))).toBe(false)
  })
})

describe('a cursor', () => {
  test('reads back as it was written', () => {
    const text = 'app:0@918273,web.access_1:12@0'
    const cursor = parseCursor(text)
    expect([...cursor]).toEqual([['app:0', 918273], ['web.access_1:12', 0]])
    expect(formatCursor([{ topic: 'app', partition: 0, offset: 918273 }, { topic: 'web.access_1', partition: 12, offset: 0 }])).toBe(text)
  })

  test.each(['app', 'app:0', 'app:0@', 'app:0@1,', 'app:0@1,app:0@2', 'app:0@99999999999999999', '../x:0@1', 'app:-1@1'])('%s is refused', (text) => {
    expect(() => parseCursor(text)).toThrow(expect.objectContaining({ code: 'INVALID_QUERY' }) as Error)
  })
})

test('JSON text written from bytes parses to the same string, and broken UTF-8 is left to the caller', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.uint8Array({ maxLength: 8 }), (line, noise) => {
      const bytes = Buffer.from(line)
      const text = new JsonText(4)
      expect(text.writeString(bytes, 0, bytes.length)).toBe(true)
      expect(JSON.parse(Buffer.from(text.take()).toString())).toBe(bytes.toString('utf8'))
      const broken = Buffer.concat([Buffer.from(noise), Buffer.from([0xff])])
      const other = new JsonText(4)
      expect(other.writeString(broken, 0, broken.length)).toBe(false)
      expect(other.length).toBe(0)
    }),
  )
})
