/**
 * Compiles a MatchSpec into a test of record values. It works on one batch's decompressed content at a time and decides
 * from the whole content which records need a look at all.
 *
 * Fixed patterns match bytes, so they find the same in text that is not UTF-8. `ignoreCase` folds ASCII letters there; a
 * pattern with other letters goes to the regex engine, which folds as Unicode says. Regexes run on re2js (linear time, no
 * backtracking) over the value decoded as UTF-8.
 *
 * One instance serves one content at a time. `invert` is the caller's: it turns the answer around per record.
 */
import { RE2JS, RE2JSException } from 're2js'
import { AppError } from '../../shared/errors.ts'
import { LiteralSearch } from './literal-search.ts'
import { queryLimits, type MatchSpec } from './query-spec.ts'
import { requiredLiterals } from './regex-literals.ts'

export interface RecordMatcher {
  begin(raw: Buffer): void
  /** Records that end at or before this position, at or behind `start`, do not match; NOWHERE: none does. `start` never goes back. */
  nextFrom(start: number): number
  /** Whether the value raw[start, end) matches. Asked with rising positions. */
  matches(start: number, end: number): boolean
}

/** Throws INVALID_QUERY with the pattern and what is wrong with it. */
export function compileMatcher(spec: MatchSpec): RecordMatcher {
  checkPatterns(spec.patterns)
  if (spec.patterns.length === 0 || spec.patterns.includes('')) return matchAll
  const needsUnicodeFolding = spec.ignoreCase && spec.patterns.some((pattern) => /[^\x00-\x7f]/.test(pattern))
  if (spec.mode === 'fixed' && !needsUnicodeFolding) return fixedMatcher(spec)
  return regexMatcher(spec)
}

/** Whether every record matches, so that nothing needs to be looked at. */
export function matchesEverything(spec: MatchSpec): boolean {
  return !spec.invert && (spec.patterns.length === 0 || spec.patterns.includes(''))
}

function checkPatterns(patterns: readonly string[]): void {
  if (patterns.length > queryLimits.patterns) throw new AppError('INVALID_QUERY', `${patterns.length} patterns are over ${queryLimits.patterns}`)
  for (const pattern of patterns) {
    const bytes = Buffer.byteLength(pattern)
    if (bytes > queryLimits.patternBytes) throw new AppError('INVALID_QUERY', `a pattern of ${bytes} bytes is over ${queryLimits.patternBytes}`)
  }
}

const matchAll: RecordMatcher = {
  begin: () => undefined,
  nextFrom: (start) => start,
  matches: () => true,
}

function fixedMatcher(spec: MatchSpec): RecordMatcher {
  const needles = spec.patterns.map((pattern) => Buffer.from(spec.ignoreCase ? pattern.toLowerCase() : pattern))
  const search = new LiteralSearch(needles.map((needle) => [needle]), { ignoreCase: spec.ignoreCase })
  let content: Buffer = Buffer.alloc(0)
  return {
    begin: (raw) => {
      content = raw
      search.begin(raw)
    },
    nextFrom: (start) => search.nextFrom(start),
    matches: spec.word
      ? (start, end) => search.someIn(start, end, (from, to) => !endsInWord(content, start, from) && !beginsWithWord(content, to, end))
      : (start, end) => search.findIn(start, end) >= 0,
  }
}

function regexMatcher(spec: MatchSpec): RecordMatcher {
  const regexes = spec.patterns.map((pattern) => compileRegex(pattern, spec))
  const search = prefilter(spec)
  let content: Buffer = Buffer.alloc(0)
  return {
    begin: (raw) => {
      content = raw
      search?.begin(raw)
    },
    nextFrom: (start) => search?.nextFrom(start) ?? start,
    matches: (start, end) => {
      if (search !== undefined && search.findIn(start, end) < 0) return false
      const text = content.toString('utf8', start, end)
      return regexes.some((regex) => regex.test(text))
    },
  }
}

function compileRegex(pattern: string, spec: MatchSpec): RE2JS {
  const source = spec.mode === 'fixed' ? RE2JS.quote(pattern) : pattern
  const flags = spec.ignoreCase ? RE2JS.CASE_INSENSITIVE : 0
  try {
    const regex = RE2JS.compile(source, flags)
    return spec.word ? RE2JS.compile(`(?:^|[^\\pL\\pN_])(?:${source})(?:$|[^\\pL\\pN_])`, flags) : regex
  } catch (error) {
    throw badPattern(pattern, error)
  }
}

/** The engine names what is wrong and the piece of the pattern; its place makes the column. */
function badPattern(pattern: string, error: unknown): AppError {
  const isSyntax = error instanceof RE2JSException && 'error' in error
  const what = isSyntax ? String(error.error) : 'is not a regular expression'
  const piece: unknown = isSyntax && 'input' in error ? error.input : undefined
  const at = typeof piece === 'string' && piece !== '' ? pattern.indexOf(piece) : -1
  const place = at >= 0 && piece !== pattern ? ` at column ${at + 1}: ${JSON.stringify(piece)}` : ''
  return new AppError('INVALID_QUERY', `pattern ${JSON.stringify(pattern.slice(0, 200))}: ${what}${place}`, {
    hint: 'patterns are RE2 expressions: no backreferences and no lookaround; without -E a pattern is plain text',
    cause: error,
  })
}

/** A search that a record must pass before any regex runs on it; undefined when one of the patterns offers none. */
function prefilter(spec: MatchSpec): LiteralSearch | undefined {
  const literals: (readonly string[])[] = []
  for (const pattern of spec.patterns) {
    const source = spec.mode === 'fixed' ? RE2JS.quote(pattern) : pattern
    const required = requiredLiterals(source, { ignoreCase: spec.ignoreCase })
    if (required === undefined) return undefined
    literals.push(...required)
  }
  return new LiteralSearch(literals.map((texts) => texts.map((text) => Buffer.from(text))), { ignoreCase: spec.ignoreCase })
}

function isWordByte(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || byte === 0x5f || (byte >= 0x61 && byte <= 0x7a)
}

function isWordText(text: string): boolean {
  return /[\p{L}\p{N}_]/u.test(text)
}

/** Whether the character before `at` is a word character; nothing before `start` is looked at. */
function endsInWord(raw: Buffer, start: number, at: number): boolean {
  if (at === start) return false
  if ((raw[at - 1] ?? 0) < 0x80) return isWordByte(raw[at - 1] ?? 0)
  let from = at - 1
  while (from > start && from > at - 4 && ((raw[from] ?? 0) & 0xc0) === 0x80) from -= 1
  return isWordText(raw.toString('utf8', from, at))
}

function beginsWithWord(raw: Buffer, at: number, end: number): boolean {
  if (at === end) return false
  if ((raw[at] ?? 0) < 0x80) return isWordByte(raw[at] ?? 0)
  let to = at + 1
  while (to < end && to < at + 4 && ((raw[to] ?? 0) & 0xc0) === 0x80) to += 1
  return isWordText(raw.toString('utf8', at, to))
}
