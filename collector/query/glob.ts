/**
 * Globs on hosts, paths and topics: `*` and `?` within one path component, `**` over several, `[a-z]` `[!a-z]`, `{a,b}`,
 * `\` before a character that is meant itself. They come from outside and run on names of up to 4 KiB, so they are
 * translated to the linear-time engine; picomatch (the agent's, for globs of its own config) makes backtracking regexes,
 * and thirty stars would stop the collector.
 *
 * A dot at the start of a name is nothing special here. A path glob without a slash is held against the last component.
 */
import { RE2JS } from 're2js'
import { AppError } from '../../shared/errors.ts'
import { queryLimits } from './query-spec.ts'

export type NameMatcher = (name: string) => boolean

export function isGlob(text: string): boolean {
  return /[*?[\]{}\\]/.test(text)
}

/** Matches when any of the globs does; no globs match everything. Throws INVALID_QUERY. */
export function compileGlobs(globs: readonly string[], options: { lastComponent?: boolean } = {}): NameMatcher {
  if (globs.length === 0) return () => true
  const matchers = globs.map((glob) => compileGlob(glob, options.lastComponent === true && !glob.includes('/')))
  return (name) => matchers.some((matches) => matches(name))
}

function compileGlob(glob: string, lastComponent: boolean): NameMatcher {
  if (Buffer.byteLength(glob) > queryLimits.globBytes) throw invalid(glob, `is over ${queryLimits.globBytes} bytes`)
  if (!isGlob(glob)) return (name) => onLast(name, lastComponent) === glob
  let regex: RE2JS
  try {
    regex = RE2JS.compile(translate(glob), RE2JS.DOTALL)
  } catch (error) {
    if (error instanceof AppError) throw error
    throw invalid(glob, 'is not a glob', error)
  }
  return (name) => regex.test(onLast(name, lastComponent))
}

function onLast(name: string, lastComponent: boolean): string {
  return lastComponent ? name.slice(name.lastIndexOf('/') + 1) : name
}

function translate(glob: string): string {
  const characters = Array.from(glob)
  let out = '^'
  let braces = 0
  for (let at = 0; at < characters.length; at += 1) {
    const character = characters[at] ?? ''
    if (character === '*') {
      const run = starsAt(characters, at)
      const wholeComponents = run >= 2 && (at === 0 || characters[at - 1] === '/') && characters[at + run] === '/'
      // `a/**/b` also is `a/b`: the slash behind belongs to the repeated part.
      out += wholeComponents ? '(?:[^/]*/)*' : run >= 2 ? '.*' : '[^/]*'
      at += wholeComponents ? run : run - 1
    } else if (character === '?') out += '[^/]'
    else if (character === '[') {
      const end = classEnd(characters, at)
      if (end < 0) throw invalid(glob, 'has a [ without its ]')
      out += translateClass(characters.slice(at + 1, end))
      at = end
    } else if (character === '{') {
      braces += 1
      out += '(?:'
    } else if (character === '}' && braces > 0) {
      braces -= 1
      out += ')'
    } else if (character === ',' && braces > 0) out += '|'
    else if (character === '\\' && at + 1 < characters.length) {
      at += 1
      out += RE2JS.quote(characters[at] ?? '')
    } else out += RE2JS.quote(character)
  }
  if (braces > 0) throw invalid(glob, 'has a { without its }')
  return `${out}$`
}

function starsAt(characters: readonly string[], at: number): number {
  let run = 0
  while (characters[at + run] === '*') run += 1
  return run
}

/** Where the `]` of the class at `at` stands; one directly at its start is a member. */
function classEnd(characters: readonly string[], at: number): number {
  const negated = characters[at + 1] === '!' || characters[at + 1] === '^'
  return characters.indexOf(']', at + (negated ? 3 : 2))
}

function translateClass(members: readonly string[]): string {
  const negated = members[0] === '!' || members[0] === '^'
  const body = (negated ? members.slice(1) : members).map((member) => (/[\\[\]^&~]/.test(member) ? `\\${member}` : member)).join('')
  return negated ? `[^/${body}]` : `[${body}]`
}

function invalid(glob: string, what: string, cause?: unknown): AppError {
  return new AppError('INVALID_QUERY', `the glob ${JSON.stringify(glob.slice(0, 200))} ${what}`, {
    hint: 'globs know * ? ** [a-z] {a,b}; a \\ before a character means the character itself',
    cause,
  })
}
