/**
 * Finds texts that must occur in every match of a regex, so that a whole batch can be searched by them before the regex
 * runs on single lines. Conservative: it understands the plain part of the syntax at the top level of the
 * pattern, and answers undefined for anything that it is not sure of. It never judges whether a pattern is valid.
 */

/** Below this a text occurs nearly everywhere and costs more than it saves. */
const LITERAL_BYTES_MIN = 2

/** For each alternative the texts that occur in its matches, all of them; undefined when nothing useful is known. */
export function requiredLiterals(pattern: string, options: { ignoreCase: boolean }): readonly (readonly string[])[] | undefined {
  const alternatives = literalRuns(pattern)?.map((runs) =>
    (options.ignoreCase ? runs.flatMap(foldableParts) : runs).filter((run) => Buffer.byteLength(run) >= LITERAL_BYTES_MIN),
  )
  return alternatives?.every((texts) => texts.length > 0) === true ? alternatives : undefined
}

/**
 * The parts of a text whose case variants are only the two ASCII ones. k and s have a third (U+212A, U+017F), which a
 * search over ASCII-lowered bytes would miss.
 */
function foldableParts(run: string): string[] {
  return run.toLowerCase().split(/[^\x20-\x7e]|[ks]/)
}

/** For each top-level alternative, the texts that follow each other in it. */
function literalRuns(pattern: string): string[][] | undefined {
  const characters = Array.from(pattern)
  const alternatives: string[][] = []
  let runs: string[] = []
  let run: string[] = []
  const breakRun = (): void => {
    if (run.length > 0) runs.push(run.join(''))
    run = []
  }
  for (let at = 0; at < characters.length; ) {
    const token = readToken(characters, at)
    if (token === undefined) return undefined
    if (token.kind === 'character') run.push(token.character)
    else if (token.kind === 'repeat') {
      if (!token.atLeastOnce) run.pop()
      breakRun()
    } else breakRun()
    if (token.kind === 'alternative') {
      alternatives.push(runs)
      runs = []
    }
    at = token.next
  }
  breakRun()
  return [...alternatives, runs]
}

type Token =
  | { readonly kind: 'character'; readonly character: string; readonly next: number }
  /** A quantifier of what stands before it. */
  | { readonly kind: 'repeat'; readonly atLeastOnce: boolean; readonly next: number }
  | { readonly kind: 'alternative'; readonly next: number }
  /** Anything that is not a literal: class, group, anchor, dot. */
  | { readonly kind: 'other'; readonly next: number }

/** undefined for what this file does not understand. */
function readToken(characters: readonly string[], at: number): Token | undefined {
  const character = characters[at] ?? ''
  const next = at + 1
  switch (character) {
    case '\\':
      return readEscape(characters, at)
    case '|':
      return { kind: 'alternative', next }
    case '+':
      return { kind: 'repeat', atLeastOnce: true, next }
    case '*':
    case '?':
      return { kind: 'repeat', atLeastOnce: false, next }
    case '{': {
      const braces = /^\{\d+(,\d*)?\}/.exec(characters.slice(at, at + 12).join(''))
      return braces === null ? { kind: 'character', character, next } : { kind: 'repeat', atLeastOnce: false, next: at + braces[0].length }
    }
    case '.':
    case '^':
    case '$':
      return { kind: 'other', next }
    case '[':
      return skipTo(classEnd(characters, at))
    case '(':
      return skipTo(groupEnd(characters, at))
    case ')':
    case '\ufffd': // stands for broken bytes in the text that the regex sees, not in the bytes themselves
      return undefined
    default:
      return { kind: 'character', character, next }
  }
}

function skipTo(end: number | undefined): Token | undefined {
  return end === undefined ? undefined : { kind: 'other', next: end }
}

function readEscape(characters: readonly string[], at: number): Token | undefined {
  const escaped = characters[at + 1] ?? ''
  if (/^[dDwWsSbBAz]$/.test(escaped)) return { kind: 'other', next: at + 2 }
  if (/^[!-/:-@[-`{-~ ]$/.test(escaped)) return { kind: 'character', character: escaped, next: at + 2 }
  return undefined
}

/** Behind the `]` of the class that opens at `at`. */
function classEnd(characters: readonly string[], at: number): number | undefined {
  let next = at + 1
  if (characters[next] === '^') next += 1
  if (characters[next] === ']') next += 1
  for (; next < characters.length; next += 1) {
    if (characters[next] === '\\') {
      if (!/^[!-/:-@[-`{-~dDwWsS]$/.test(characters[next + 1] ?? '')) return undefined
      next += 1
    } else if (characters[next] === '[' && characters[next + 1] === ':') {
      const end = characters.indexOf(']', next + 2)
      if (end < 0) return undefined
      next = end
    } else if (characters[next] === ']') return next + 1
  }
  return undefined
}

/** Behind the `)` of the group that opens at `at`; undefined for a group that sets flags. */
function groupEnd(characters: readonly string[], at: number): number | undefined {
  let depth = 0
  for (let next = at; next < characters.length; ) {
    const character = characters[next]
    if (character === '\\') {
      const escape = readEscape(characters, next)
      if (escape === undefined) return undefined
      next = escape.next
    } else if (character === '[') {
      const end = classEnd(characters, next)
      if (end === undefined) return undefined
      next = end
    } else {
      if (character === '(') {
        if (characters[next + 1] === '?' && !/^\?(:|P?<)/.test(characters.slice(next + 1, next + 4).join(''))) return undefined
        depth += 1
      } else if (character === ')') depth -= 1
      next += 1
      if (depth === 0) return next
    }
  }
  return undefined
}
