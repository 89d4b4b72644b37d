/**
 * The judgement at the end: of every incarnation of every file, what had to be stored, what was, and why the rest was
 * not. Losses that no agent could have prevented (E1) are counted apart, each with its reason; anything else is broken.
 *
 * Required are: all of a file that is there under a name that an agent looks at; all of a file that was removed or
 * renamed while a living agent held it; everything that a living agent has sent. Nothing may be stored more often than
 * it stands in files.
 */
import type { Incarnation } from './content.ts'
import type { HostDisk } from './host-disk.ts'
import type { Ledger, LedgerStream } from './ledger.ts'

/** Files may begin with the same words up to here. */
export const BANNER_BYTES_MAX = 3_100

export interface SentBatch {
  readonly atMs: number
  readonly end: number
  readonly batch: Buffer
}

export interface OracleInput {
  readonly disks: readonly HostDisk[]
  readonly ledger: Ledger
  readonly isAlive: (life: string) => boolean
  /** By life and stream. */
  readonly sent: ReadonlyMap<string, ReadonlyMap<string, readonly SentBatch[]>>
  /** Two agents under one id: neither can promise that a stream of its own is not taken over by the other. */
  readonly isCloned: boolean
  /**
   * The collector came back from a backup: what it had stored since is stored again from files that still hold it. By
   * name of a disk, from when on its agent knows; undefined when there was no backup.
   */
  readonly setBackUntilMs: ((disk: string) => number) | undefined
}

export interface Judgement {
  /** Required and not stored: broken if it stays so. */
  readonly missing: readonly string[]
  readonly doubled: readonly string[]
  /** Bytes lost as E1 allows, by reason. */
  readonly explained: ReadonlyMap<string, number>
  readonly writtenBytes: number
  readonly storedBytes: number
  /** Lines that stand in several files and were stored more than once for that. */
  readonly namedCopies: number
}

export function judge(input: OracleInput): Judgement {
  const missing: string[] = []
  const explained = new Map<string, number>()
  let writtenBytes = 0
  const streams = [...input.ledger.streams.values()]
  for (const disk of input.disks) {
    const paths = new Map(disk.files().map(({ path, node }) => [node.incarnation, path]))
    for (const incarnation of disk.incarnations) {
      writtenBytes += incarnation.size
      const stored = storedOf(incarnation, streams)
      if (stored >= incarnation.size) continue
      const isBegun = streams.some((stream) => isOf(stream, incarnation))
      const goneBeforeMs = input.setBackUntilMs?.(disk.name) ?? 0
      const why = excuse(incarnation, { path: paths.get(incarnation), isBegun, isAlive: input.isAlive, goneBeforeMs })
      if (why === undefined) missing.push(`${incarnation.name}: ${stored} of ${incarnation.size} bytes are stored (${incarnation.ending.kind}, ${paths.get(incarnation) ?? 'no name'})`)
      else explained.set(why, (explained.get(why) ?? 0) + incarnation.size - stored)
    }
  }
  const unsettled = findUnsettled(input)
  missing.push(...unsettled.missing)
  if (unsettled.overtakenBytes > 0) explained.set('truncated after a late batch of a dead life had cut what the next one held', unsettled.overtakenBytes)
  const { doubled, namedCopies } = findDoubled(input, streams)
  return { missing, doubled, explained, writtenBytes, namedCopies, storedBytes: streams.reduce((sum, { bytes }) => sum + bytes.length, 0) }
}

/** How far the best of the streams goes that are prefixes of it. */
function storedOf(incarnation: Incarnation, streams: readonly LedgerStream[]): number {
  const all = incarnation.view()
  let best = 0
  for (const { bytes } of streams) {
    if (bytes.length > best && bytes.length <= all.length && all.subarray(0, bytes.length).equals(bytes)) best = bytes.length
    // A copy that was cut short is covered by the stream of what it was copied from.
    else if (bytes.length > all.length && bytes.subarray(0, all.length).equals(all)) best = all.length
  }
  return best
}

/** Whether the stream was begun with this file, and not with another that begins alike. */
function isOf({ bytes, first }: LedgerStream, incarnation: Incarnation): boolean {
  return first.inode === BigInt(incarnation.inode) && bytes.length > BANNER_BYTES_MAX && incarnation.view().subarray(0, bytes.length).equals(bytes)
}

interface Facts {
  readonly path: string | undefined
  readonly isBegun: boolean
  /** Files that ended earlier could not fill a collector again that was set back; 0 when none was. */
  readonly goneBeforeMs: number
  readonly isAlive: (life: string) => boolean
}

/** Why no agent could have stored the rest; undefined when one should have. */
function excuse(incarnation: Incarnation, facts: Facts): string | undefined {
  const { ending } = incarnation
  const { path, isBegun, isAlive, goneBeforeMs } = facts
  if (ending.kind !== 'alive' && ending.atMs < goneBeforeMs) return 'gone when the collector was set back'
  switch (ending.kind) {
    case 'alive': {
      if (path === undefined) throw new Error(`${incarnation.name} is alive and has no name`)
      if (path.endsWith('.log')) return undefined
      if (path.endsWith('.gz')) return 'compressed, not a log'
      if (incarnation.openedBy.size === 0) return 'never stood under a name of the globs while an agent looked'
      if (isBegun) return undefined
      // Siblings that no stream speaks of are taken in by their age only, and an agent remembers that of the newest.
      if (goneBeforeMs > 0) return 'rotated out of the globs, and unknown to the collector that was set back'
      if ([...incarnation.openedBy].some(isAlive)) return undefined
      return 'rotated out of the globs before its first batch was stored, and its agent died'
    }
    case 'removed': {
      if (ending.heldBy.length === 0) return 'removed while no agent held it'
      if (!ending.heldBy.some(isAlive)) return 'removed, and the agent that held it died'
      // Held for a look among the siblings is not followed.
      return isBegun || ending.heldBy.some((life) => isAlive(life) && incarnation.openedBy.has(life)) ? undefined : 'removed under a name outside the globs, and unknown'
    }
    case 'truncated':
      return 'truncated before it was read'
  }
}

/**
 * Sealed batches stay in memory until they are stored, whatever becomes of the file. A stream that turned out to be
 * another file's is begun anew, so the bytes may stand in another one.
 */
function findUnsettled({ sent, ledger, isAlive, isCloned, setBackUntilMs }: OracleInput): { missing: string[]; overtakenBytes: number } {
  const missing: string[] = []
  let overtakenBytes = 0
  if (isCloned) return { missing, overtakenBytes }
  for (const [life, streams] of sent) {
    if (!isAlive(life)) continue
    const heldFromMs = setBackUntilMs?.(life.replace(/^agent-|\/.*$/g, '')) ?? 0
    for (const [id, batches] of streams) {
      // What came before it may be gone for good, and then nothing follows on that.
      if ((batches[0]?.atMs ?? 0) < heldFromMs) continue
      const stored = ledger.streams.get(id)?.bytes.length ?? 0
      for (const { end, batch } of batches) {
        if (end <= stored) continue
        const { bytes } = ledger.decode(batch)
        if ([...ledger.streams.values()].some((stream) => stream.bytes.includes(bytes))) continue
        if (isOvertaken(id, stored, { sent, batches, isAlive })) overtakenBytes = Math.max(overtakenBytes, end - stored)
        else missing.push(`stream ${id.slice(0, 8)}: ${life} sent it up to ${end}, ${stored} are stored`)
      }
    }
  }
  return { missing, overtakenBytes }
}

/**
 * A late batch of a dead life moved the position into the middle of one that this life holds. It is cut anew from the
 * file, and where that was truncated meanwhile, nobody has the bytes before the position to compare.
 */
function isOvertaken(
  id: string,
  stored: number,
  by: { sent: OracleInput['sent']; batches: readonly SentBatch[]; isAlive: (life: string) => boolean },
): boolean {
  if (by.batches.some(({ end }) => end === stored)) return false
  return [...by.sent].some(([life, streams]) => !by.isAlive(life) && streams.get(id)?.some(({ end }) => end === stored) === true)
}

function findDoubled({ disks }: OracleInput, streams: readonly LedgerStream[]): { doubled: string[]; namedCopies: number } {
  const incarnations = disks.flatMap((disk) => disk.incarnations)
  const ownStreams = streams.filter((stream) => !isCarriedOn(stream, incarnations))
  const stored = countLines(ownStreams.map(({ bytes }) => bytes))
  const written = countLines(incarnations.map((incarnation) => incarnation.view()))
  const doubled: string[] = []
  let namedCopies = 0
  for (const [line, count] of stored) {
    if (count > (written.get(line) ?? 0)) doubled.push(`${JSON.stringify(line.slice(0, 40))} is stored ${count} times and stands ${written.get(line) ?? 0} times in files`)
    else if (count > 1) namedCopies += 1
  }
  return { doubled, namedCopies }
}

/**
 * Begun with one file and carried on by another that looked like its copy. Once that one bears another name no agent can
 * know it again, and in doubt it is stored as a file of its own.
 */
function isCarriedOn({ first, bytes }: LedgerStream, incarnations: readonly Incarnation[]): boolean {
  return !incarnations.some((each) => BigInt(each.inode) === first.inode && each.view().subarray(0, bytes.length).equals(bytes))
}

/** Lines that name their writer; the words of a banner are the same everywhere. */
function countLines(contents: readonly Buffer[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const content of contents) {
    for (const line of content.toString('latin1').split('\n')) {
      if (/^[a-z0-9]+ [0-9]+ /.test(line) && line.length < 200) counts.set(line, (counts.get(line) ?? 0) + 1)
    }
  }
  return counts
}
