import fc from 'fast-check'
import { RE2JS } from 're2js'
import { describe, expect, test } from 'vitest'
import { compileMatcher } from '../../../collector/query/record-matcher.ts'
import type { MatchSpec } from '../../../collector/query/query-spec.ts'
import { requiredLiterals } from '../../../collector/query/regex-literals.ts'

const plain: MatchSpec = { patterns: [], mode: 'fixed', word: false, ignoreCase: false, invert: false }

/** Which lines of a content match; the lines stand in it as record values do, with other bytes between them. */
function matching(spec: Partial<MatchSpec>, lines: readonly (string | Buffer)[]): number[] {
  const matcher = compileMatcher({ ...plain, ...spec })
  const pieces: Buffer[] = []
  const ranges: { start: number; end: number }[] = []
  let at = 0
  for (const line of lines) {
    const between = Buffer.from('key ERROR needle\0')
    const value = Buffer.from(line)
    pieces.push(between, value)
    ranges.push({ start: at + between.length, end: at + between.length + value.length })
    at += between.length + value.length
  }
  matcher.begin(Buffer.concat(pieces))
  return ranges.flatMap(({ start, end }, index) => (matcher.matches(start, end) ? [index] : []))
}

describe('a matcher', () => {
  const cases: readonly (readonly [string, Partial<MatchSpec>, readonly (string | Buffer)[], readonly number[]])[] = [
    ['finds a substring inside the value only, not in what stands around it', { patterns: ['needle'] }, ['x', 'a needle b', 'needl', 'e'], [1]],
    ['takes any of several patterns', { patterns: ['aa', 'bb'] }, ['aa', 'bb', 'ab', 'xbb'], [0, 1, 3]],
    ['takes every line for an empty pattern', { patterns: ['x', ''] }, ['', 'y'], [0, 1]],
    ['is about bytes: a pattern is found in text that is not UTF-8', { patterns: ['ok'] }, [Buffer.from([0xff, 0x6f, 0x6b, 0xfe])], [0]],
    ['minds the case unless told', { patterns: ['Error'] }, ['error', 'Error', 'ERROR'], [1]],
    ['ignores the case of ASCII letters', { patterns: ['eRRor'], ignoreCase: true }, ['error', 'Error', 'ERROR', 'err0r'], [0, 1, 2]],
    ['ignores the case of other letters', { patterns: ['straßÉ'], ignoreCase: true }, ['STRAßé', 'straße'], [0]],
    ['finds words: not inside a longer one', { patterns: ['cat'], word: true }, ['cat', 'a cat.', 'concat', 'cats', 'cat_', 'concat cat', 'cat2', '(cat)'], [0, 1, 5, 7]],
    ['counts letters of every script as part of a word', { patterns: ['caf'], word: true }, ['café', 'caf→', 'écaf', '→caf'], [1, 3]],
    ['finds regexes', { patterns: [' 5\\d\\d '], mode: 'regex' }, ['GET 503 x', 'GET 5 x', 'GET 5000'], [0]],
    ['anchors regexes at the line', { patterns: ['^a.*z$'], mode: 'regex' }, ['abcz', 'xabcz', 'az'], [0, 2]],
    ['finds regexes as words', { patterns: ['c.t|dog'], mode: 'regex', word: true }, ['cat', 'dogs', 'a dog', 'concat'], [0, 2]],
    ['ignores case in regexes, as Unicode folds it', { patterns: ['tasK'], mode: 'regex', ignoreCase: true }, ['TAS\u212a', 'ta\u017fk', 'TASK'], [0, 1, 2]],
    ['lets a regex see a replacement character for broken bytes', { patterns: ['a\ufffdb'], mode: 'regex' }, [Buffer.from([0x61, 0xff, 0x62])], [0]],
  ]
  test.each(cases)('%s', (_name, spec, lines, wanted) => {
    expect(matching(spec, lines)).toEqual(wanted)
  })

  test('finds as words what a regex with the same borders finds', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b', ' ', '_', '-', 'é', '→'), maxLength: 10 })
    const needle = fc.string({ unit: fc.constantFrom('a', 'b', '-', 'é'), minLength: 1, maxLength: 3 })
    fc.assert(
      fc.property(fc.array(text, { maxLength: 8 }), fc.array(needle, { minLength: 1, maxLength: 3 }), (lines, patterns) => {
        const borders = patterns.map((pattern) => new RegExp(`(?<![\\p{L}\\p{N}_])(?:${pattern})(?![\\p{L}\\p{N}_])`, 'u'))
        expect(matching({ patterns, word: true }, lines)).toEqual(lines.flatMap((line, at) => (borders.some((border) => border.test(line)) ? [at] : [])))
      }),
    )
  })
})

describe('required literals', () => {
  const cases: readonly (readonly [string, boolean, readonly (readonly string[])[] | undefined])[] = [
    ['connection refused', false, [['connection refused']]],
    ['foo.*barbaz', false, [['foo', 'barbaz']]],
    ['foo|bar', false, [['foo'], ['bar']]],
    ['foo|.*', false, undefined],
    ['abc+d', false, [['abc']]],
    ['abcd*e', false, [['abc']]],
    ['abcd{0,3}e', false, [['abc']]],
    ['x{abc}', false, [['x{abc}']]],
    ['(abc)de', false, [['de']]],
    ['(?i)abc', false, undefined],
    ['(?:abc)', false, undefined],
    ['[abc]def[]x]gh', false, [['def', 'gh']]],
    ['\\.txt', false, [['.txt']]],
    ['\\d\\d:ab', false, [[':ab']]],
    ['\\x41bc', false, undefined],
    ['status', true, [['tatu']]],
    ['Kelvin', true, [['elvin']]],
    ['abé', true, [['ab']]],
  ]
  test.each(cases)('of %s (ignoreCase %s) are %j', (pattern, ignoreCase, wanted) => {
    expect(requiredLiterals(pattern, { ignoreCase })).toEqual(wanted)
  })

  test('never make a matcher miss what the regex alone would find', () => {
    const piece = fc.constantFrom('a', 'b', 'k', 'S', 'ab', '.', 'a*', 'b+', 'k?', '(ab|S)', '[ab]', '[^a]', '\\.', '\\w', '|', '^', '$', 'a{2}', 'b{0,1}', '(?:k|)', 'é', '\\bk')
    const line = fc.string({ unit: fc.constantFrom('a', 'b', 'k', 'K', 's', 'S', '.', 'é', 'É', '\u212a', ' '), maxLength: 8 })
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 6 }), fc.array(line, { minLength: 1, maxLength: 10 }), fc.boolean(), (pieces, lines, ignoreCase) => {
        const pattern = pieces.join('')
        fc.pre(isValid(pattern))
        const alone = RE2JS.compile(pattern, ignoreCase ? RE2JS.CASE_INSENSITIVE : 0)
        expect(matching({ patterns: [pattern], mode: 'regex', ignoreCase }, lines)).toEqual(lines.flatMap((each, at) => (alone.test(each) ? [at] : [])))
      }),
      { numRuns: 1500 },
    )
  })
})

function isValid(pattern: string): boolean {
  try {
    RE2JS.compile(pattern)
    return true
  } catch (error) {
    if (error instanceof Error) return false
    throw error
  }
}
