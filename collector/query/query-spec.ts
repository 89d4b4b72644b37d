/**
 * What a query asks for, as plain values. parse-query.ts makes it from the parameters of a request; nothing here knows
 * HTTP. The parts that a worker needs (`MatchSpec`, globs) are structured-cloneable.
 *
 * A record is *admitted* when its offset, arrival time, host and path pass the filters. Admitted records are matched by
 * the pattern; context lines are neighbours of a match among the admitted records of the same source.
 *
 * Arrival time of a record is its timestamp, but never before its batch's first record: an agent's clock that steps back
 * within one batch can't hide lines, and a batch can be skipped by its header alone.
 */
import type { Cursor } from './cursor.ts'

export interface MatchSpec {
  /** A record matches when one of them occurs in it. None, or an empty one, matches every record. */
  readonly patterns: readonly string[]
  readonly mode: 'fixed' | 'regex'
  /** The match must stand between non-word characters (letters, digits and underscore are word characters). */
  readonly word: boolean
  readonly ignoreCase: boolean
  readonly invert: boolean
}

export interface SourceSpec {
  /** Globs, any of them; none = every host. */
  readonly hosts: readonly string[]
  readonly paths: readonly string[]
  /** Name and value; all of them must be there, as they are. Absent = any labels, or none. */
  readonly labels?: readonly (readonly [name: string, value: string])[]
}

export interface QuerySpec {
  /** Names or globs; none = every topic. */
  readonly topics: readonly string[]
  readonly match: MatchSpec
  readonly source: SourceSpec
  /** Arrival time ≥ this. */
  readonly sinceMs: number | undefined
  /** Arrival time < this. */
  readonly untilMs: number | undefined
  /** None = every partition. */
  readonly partitions: ReadonlySet<number> | undefined
  readonly from: Cursor | undefined
  /** End after this many matches, in the order of the answer. */
  readonly limit: number | undefined
  /** Only the newest so many matches, still oldest first. */
  readonly last: number | undefined
  /** Newest first: exactly the other order. */
  readonly reverse: boolean
  readonly before: number
  readonly after: number
  /** Only the end line, with `matched`. */
  readonly count: boolean
  /** Only counts, of stretches of so many ms of arrival time, oldest first. */
  readonly countByMs: number | undefined
}

export interface TailSpec {
  readonly topics: readonly string[]
  readonly match: MatchSpec
  readonly source: SourceSpec
  readonly partitions: ReadonlySet<number> | undefined
  /** undefined = from the end. */
  readonly from: Cursor | undefined
  /** Newest so many matches first; ignored with `from`. */
  readonly last: number
  readonly before: number
  readonly after: number
  /** How long a line waits for older lines of other partitions. */
  readonly holdMs: number
}

/** Limits of one query. All are held against what comes from outside. */
export const queryLimits = {
  patterns: 64,
  patternBytes: 4096,
  globs: 64,
  globBytes: 1024,
  contextLines: 1000,
  partitions: 4096,
  /** Each event of a tail carries the cursor of all partitions. */
  tailPartitions: 256,
  cursorBytes: 64 * 1024,
  holdMsMax: 10_000,
  /** Stretches of time that one query counts; newer ones are left out, and the end line says so. */
  timeCounts: 100_000,
  /** Listed one by one in the end line; more are summed up in the last. */
  missingRanges: 1000,
} as const
