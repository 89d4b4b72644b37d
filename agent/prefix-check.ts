/**
 * Looks at what was adopted once more: two hashes tied a file to its stream (its head, and the 64 KiB before the
 * position), and a tail of constant lines can match falsely. Here the whole prefix is hashed again, range by range,
 * against the hashes of the batches that the collector has stored. A range that differs ends the match; ranges that the
 * log has dropped are skipped.
 *
 * In the background: one file at a time, at a bounded pace that is lower while files are being shipped. Whatever goes
 * wrong with the reading ends only that check. What is found is the follower's to act on.
 */
import { createHash } from 'node:crypto'
import { AppError, BugError } from '../shared/errors.ts'
import { readFully } from '../shared/files.ts'
import { HASH_BYTES } from '../shared/source-header.ts'
import type { Counter, System } from '../shared/system.ts'
import type { StreamHashesResponse } from '../shared/wire.ts'
import type { Handles } from './handles.ts'
import { describeReadError } from './read-error.ts'
import type { Registry } from './registry.ts'
import type { Session } from './session.ts'
import type { SourceFile } from './source-file.ts'
import type { Stream } from './stream.ts'
import { Waker } from './waker.ts'

/** Bytes between two pauses: 8 MiB/s while nothing is shipped, 1 MiB/s while something is. */
const PIECE_BYTES = 64 * 1024
const IDLE_PAUSE_MS = 8
const BUSY_PAUSE_MS = 64
/** Each page may cost the collector a search through its partition. */
const PAGE_PAUSE_MS = 100
const IDLE_WAIT_MS = 60_000

type SourceRange = StreamHashesResponse['ranges'][number]

export interface PrefixCheckDeps {
  readonly system: System
  readonly session: Session
  readonly handles: Handles
  readonly registry: Registry
  /** Whether files are being read and sealed right now. */
  readonly isShipping: () => boolean
  /** The file holds other bytes than the stream that it was tied to. */
  readonly onDifference: (file: SourceFile, stream: Stream, range: { start: number; end: number }) => void
}

/** A file with what it was tied to. */
interface Adoption {
  readonly file: SourceFile
  readonly stream: Stream
  /** Position that was adopted: what is before it is to be compared. */
  readonly end: number
}

type CheckResult = 'equal' | 'different' | 'not stored any more' | 'stopped'

export class PrefixCheck {
  private readonly deps: PrefixCheckDeps
  private readonly waker: Waker
  /** By file, in order of adoption: at most one for each file that is followed. */
  private readonly waiting = new Map<SourceFile, Adoption>()
  private isKnownThere = true
  private sincePauseBytes = 0
  private readonly results: Counter
  private readonly bytes: Counter

  constructor(deps: PrefixCheckDeps) {
    const { metrics, clock } = deps.system
    this.deps = deps
    this.waker = new Waker(clock)
    this.results = metrics.counter('tailrace_agent_prefix_checks_total', 'Adopted prefixes hashed again, by what was found', ['result'])
    this.bytes = metrics.counter('tailrace_agent_prefix_checked_bytes_total', 'Source bytes hashed again in the background')
  }

  /** The file was just tied to a stream at a position from outside. */
  adopted(file: SourceFile): void {
    const { cursor } = file
    if (!this.isKnownThere || cursor === undefined || cursor.start.position === 0) return
    this.waiting.set(file, { file, stream: cursor.stream, end: cursor.start.position })
    this.waker.wake()
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const next = this.take()
      if (next === undefined) {
        await this.waker.wait(IDLE_WAIT_MS, signal)
        continue
      }
      try {
        this.results.add(1, { result: await this.check(next, signal) })
      } catch (thrown) {
        if (signal.aborted) return
        this.failed(next, thrown)
      }
    }
  }

  private take(): Adoption | undefined {
    for (const adoption of this.waiting.values()) {
      this.waiting.delete(adoption.file)
      if (this.isTied(adoption)) return adoption
    }
    return undefined
  }

  private isTied({ file, stream }: Adoption): boolean {
    return file.cursor?.stream === stream && this.deps.registry.has(file)
  }

  /** Pages come in the order of the log, and each one begins behind the one before. */
  private async check(adoption: Adoption, signal: AbortSignal): Promise<CheckResult> {
    const { session, system } = this.deps
    const stream = adoption.stream.identity.idHex
    let checkedTo = 0
    let isWhole = true
    for (let offset: number | undefined; checkedTo < adoption.end; ) {
      const from = checkedTo
      const after = offset
      const page = await session.call((client) => client.hashes({ stream, from, offset: after }, signal), signal)
      if (page === undefined) return this.notThere()
      for (const range of page.ranges) {
        if (range.start >= adoption.end) break
        if (range.start > checkedTo) isWhole = this.isMissing(adoption, { start: checkedTo, end: range.start })
        const result = await this.compare(adoption, range, signal)
        if (result !== 'equal') return result
        checkedTo = range.end
      }
      if (page.next === null) break
      if (page.next <= (after ?? -1)) throw new AppError('REMOTE_ERROR', `a page of hashes at offset ${after ?? 0} leads back to ${page.next}`)
      offset = page.next
      await system.clock.sleep(PAGE_PAUSE_MS, signal)
    }
    if (checkedTo < adoption.end) isWhole = this.isMissing(adoption, { start: checkedTo, end: adoption.end })
    return isWhole ? 'equal' : 'not stored any more'
  }

  /** Answers false: not everything could be compared. */
  private isMissing({ file, stream }: Adoption, range: { start: number; end: number }): false {
    this.deps.system.log.debug('a range of a file can not be compared: the log holds it no more', { path: file.path, stream: stream.identity.idHex, ...range })
    return false
  }

  private async compare(adoption: Adoption, range: SourceRange, signal: AbortSignal): Promise<CheckResult> {
    const hash = await this.hashOf(adoption, range, signal)
    // Tied anew meanwhile: then it changed before our eyes, and the reader has seen it too.
    if (hash === undefined || !this.isTied(adoption)) return 'stopped'
    if (hash === range.sourceHash) return 'equal'
    this.deps.onDifference(adoption.file, adoption.stream, { start: range.start, end: range.end })
    return 'different'
  }

  /** undefined when the file ends before the range does, or is not the stream's any more. */
  private async hashOf(adoption: Adoption, { start, end }: SourceRange, signal: AbortSignal): Promise<string | undefined> {
    const { handles } = this.deps
    const hash = createHash('sha256')
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, end - start))
    for (let at = start; at < end; at += piece.length) {
      if (!this.isTied(adoption)) return undefined
      const length = Math.min(piece.length, end - at)
      const count = await readFully(await handles.of(adoption.file), piece.subarray(0, length), at)
      if (count < length) return undefined
      hash.update(piece.subarray(0, length))
      this.bytes.add(length)
      await this.pause(length, signal)
    }
    return hash.digest().subarray(0, HASH_BYTES).toString('hex')
  }

  /** Short ranges share a pause. */
  private async pause(bytes: number, signal: AbortSignal): Promise<void> {
    const { system, isShipping } = this.deps
    this.sincePauseBytes += bytes
    if (this.sincePauseBytes < PIECE_BYTES) return
    this.sincePauseBytes = 0
    await system.clock.sleep(isShipping() ? BUSY_PAUSE_MS : IDLE_PAUSE_MS, signal)
  }

  private notThere(): CheckResult {
    this.isKnownThere = false
    this.waiting.clear()
    this.deps.system.log.debug('the collector is older than this agent and tells no hashes: what was adopted is not compared again')
    return 'stopped'
  }

  private failed({ file }: Adoption, thrown: unknown): void {
    if (thrown instanceof BugError) throw thrown
    this.results.add(1, { result: 'stopped' satisfies CheckResult })
    this.deps.system.log.debug('a file could not be compared with what is stored', { path: file.path, reason: describeReadError(thrown).text })
  }
}
