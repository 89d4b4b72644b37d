/**
 * Who writes to this store: the newest of the files `_owner/<boot10>-<sequence10>.json`. Each is made once with an
 * exclusive create and never changed, so that two collectors that write at the same time collide on a name.
 *
 * It answers two questions. At start: is the store ahead of our disk? Then the disk was rolled back, lost or cloned, and
 * to go on would use offsets twice. Before each final rename: are we still the one? The next offset of a partition is
 * written here *before* the segment gets its final name, and held against the log's end, which is past it by then: so an
 * honest collector is never behind its own owner file, not after a crash either.
 */
import * as v from 'valibot'
import { AppError, toAppError } from '../../shared/errors.ts'
import type { Log } from '../../shared/system.ts'
import type { Offset } from '../../shared/types.ts'
import { partitionName } from './journal-format.ts'
import { OWNER_DIRECTORY, ownerFileName, ownerPath, parseOwnerName, type OwnerName } from './layout.ts'
import { bufferSource, readSmall, type RemoteStore } from './remote-store.ts'

/** A living collector writes its owner file at least so often. */
export const HOLD_MS = 60_000
const OWNER_BYTES_MAX = 16 * 1024 * 1024
/** Torn files in a row that are looked behind: each is one crash in the middle of an update. */
const TORN_MAX = 16
const CLAIM_ATTEMPTS_MAX = 4

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const ownerSchema = v.object({
  version: v.literal(1),
  clusterId: v.string(),
  logEpoch: count,
  boot: count,
  nonce: v.string(),
  /** Partition name → next offset: everything below it may be on the store. */
  next: v.record(v.string(), count),
})
export type OwnerFile = v.InferOutput<typeof ownerSchema>

export interface FoundOwner {
  readonly names: readonly OwnerName[]
  /** The newest whole one. */
  readonly owner: OwnerFile | undefined
  readonly ownerName: OwnerName | undefined
}

/** Newest first. */
async function listOwners(store: RemoteStore): Promise<OwnerName[]> {
  const listed = await store.list(OWNER_DIRECTORY)
  return listed
    .map((each) => parseOwnerName(each.name))
    .filter((name) => name !== undefined)
    .sort((a, b) => b.boot - a.boot || b.sequence - a.sequence)
}

export async function readOwner(store: RemoteStore): Promise<FoundOwner> {
  const names = await listOwners(store)
  for (const name of names.slice(0, TORN_MAX)) {
    const owner = await readOwnerFile(store, name)
    if (owner !== undefined) return { names, owner, ownerName: name }
  }
  return { names, owner: undefined, ownerName: undefined }
}

/** undefined when it is torn or was removed by its successor. */
async function readOwnerFile(store: RemoteStore, name: OwnerName): Promise<OwnerFile | undefined> {
  let bytes: Buffer
  try {
    bytes = await readSmall(store, ownerPath(name), OWNER_BYTES_MAX)
  } catch (error) {
    if (toAppError(error).code === 'NOT_FOUND') return undefined
    throw error
  }
  try {
    const result = v.safeParse(ownerSchema, JSON.parse(bytes.toString('utf8')))
    return result.success ? result.output : undefined
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
}

export interface OurHistory {
  readonly clusterId: string
  /** Of the journal: 0 when it is new. */
  readonly boot: number
  readonly nonce: string
  /** Log end by partition name; undefined where the partition does not exist (any more). */
  readonly logEnd: (partition: string) => number | undefined
}

/** Why we must not write here, or undefined. Pure. */
export function judgeOwner(owner: OwnerFile | undefined, ours: OurHistory): AppError | undefined {
  if (owner === undefined) return undefined
  if (owner.clusterId !== ours.clusterId) {
    return restoreRequired(`the export folder belongs to cluster ${owner.clusterId}, this collector is ${ours.clusterId}`, `if this is a new folder in place of a lost one, stop the collector and run: tailrace-collector restore, with the same settings (--dry-run only tells what it would do); else export to another folder`)
  }
  for (const [partition, next] of Object.entries(owner.next)) {
    const end = ours.logEnd(partition)
    if (end !== undefined && end < next) return restoreRequired(`the store holds ${partition} up to offset ${next}, our log ends at ${end}`)
  }
  // A new journal beside a log that is not behind: the export folder was moved aside, and the checksums sort it out.
  if (ours.boot > 0 && owner.boot > ours.boot) return restoreRequired(`the store knows boot ${owner.boot} of this collector, our journal only ${ours.boot}`)
  if (ours.boot > 0 && owner.boot === ours.boot && owner.nonce !== ours.nonce) return restoreRequired('another copy of this collector wrote to the export folder')
  return undefined
}

/** The same for every way in which disk and store disagree: which it was only a person can know. */
export const RESTORE_HINT =
  'the disk was rolled back, lost or cloned. If a newer data folder is to be had, start that one; else stop the collector and run: tailrace-collector restore, with the same settings (--dry-run only tells what it would do)'

function restoreRequired(what: string, hint = RESTORE_HINT): AppError {
  return new AppError('RESTORE_REQUIRED', what, { hint })
}

export interface OwnerIdentity {
  readonly clusterId: string
  readonly logEpoch: number
  readonly boot: number
  readonly nonce: string
}

/** Our hold on the store during one process life. `claim` may be called by many uploads at once; they share a write. */
export class Owner {
  private readonly store: RemoteStore
  private readonly log: Log
  private readonly identity: OwnerIdentity
  private readonly next: Map<string, number>
  private written = new Map<string, number>()
  private sequence = 0
  /** Of our newest file that was found whole, with our nonce in it. */
  private provedSequence = 0
  private running: Promise<void> | undefined
  private queued: Promise<void> | undefined

  constructor(store: RemoteStore, log: Log, options: { identity: OwnerIdentity; next: ReadonlyMap<string, number> }) {
    this.store = store
    this.log = log
    this.identity = options.identity
    this.next = new Map(options.next)
  }

  /** Announces this process life. RESTORE_REQUIRED when somebody else did meanwhile. */
  take(): Promise<void> {
    return this.update()
  }

  /** A sign of life for whoever else looks at the store. RESTORE_REQUIRED when somebody else took it. */
  hold(): Promise<void> {
    return this.update()
  }

  /** On return the store knows that offsets below `nextOffset` may be on it, and that we are the one who writes. */
  async claim(at: { topic: string; partition: number }, nextOffset: Offset): Promise<void> {
    const name = partitionName(at)
    this.next.set(name, Math.max(nextOffset, this.next.get(name) ?? 0))
    if ((this.written.get(name) ?? -1) >= nextOffset) await this.checkStillOurs()
    else await this.update()
  }

  /** The names there are, newest first. One list is enough while the newest is the file that we wrote and read last. */
  private async checkStillOurs(): Promise<readonly OwnerName[]> {
    const names = await listOwners(this.store)
    if (names[0]?.boot === this.identity.boot && names[0].sequence === this.provedSequence) return names
    const { owner, ownerName } = await readOwner(this.store)
    if (owner !== undefined) this.assertOurs(owner, ownerName)
    return names
  }

  private assertOurs(owner: OwnerFile, name: OwnerName | undefined): void {
    if (owner.nonce === this.identity.nonce && owner.boot === this.identity.boot) return
    // Our own earlier lives are older, whatever came later is not us.
    if (name !== undefined && name.boot < this.identity.boot && owner.clusterId === this.identity.clusterId) return
    throw restoreRequired(`another collector (boot ${owner.boot}) took the export folder`, 'stop one of the two; a copy of a data folder must not run beside its original')
  }

  /** A write under way may have been composed before our change: wait for the one behind it, which all who come now share. */
  private update(): Promise<void> {
    const before = this.running ?? Promise.resolve()
    this.queued ??= before.then(
      () => this.startWrite(),
      () => this.startWrite(),
    )
    return this.queued
  }

  private startWrite(): Promise<void> {
    this.queued = undefined
    this.running = this.write()
    return this.running
  }

  private async write(): Promise<void> {
    const next = new Map(this.next)
    const { clusterId, logEpoch, boot, nonce } = this.identity
    const bytes = Buffer.from(`${JSON.stringify({ version: 1, clusterId, logEpoch, boot, nonce, next: Object.fromEntries(next) } satisfies OwnerFile)}\n`)
    for (let attempt = 1; ; attempt += 1) {
      const names = await this.checkStillOurs()
      const newest = names.find((each) => each.boot === boot)
      this.sequence = Math.max(this.sequence, newest?.sequence ?? 0) + 1
      const name = { boot, sequence: this.sequence }
      if (await this.tryPut(name, bytes)) {
        this.written = next
        this.provedSequence = name.sequence
        await this.removeOlder(names, name)
        return
      }
      if (attempt >= CLAIM_ATTEMPTS_MAX) throw new AppError('REMOTE_ERROR', `could not write ${ownerFileName(name)}`)
    }
  }

  /** false when the name is taken or the file is not whole: the caller looks again at who is there. */
  private async tryPut(name: OwnerName, bytes: Buffer): Promise<boolean> {
    const source = bufferSource(bytes)
    try {
      await this.store.put(ownerPath(name), source)
    } catch (error) {
      const { code } = toAppError(error)
      if (code !== 'CONFLICT' && code !== 'UNKNOWN_OUTCOME') throw error
    }
    const owner = await readOwnerFile(this.store, name)
    return owner !== undefined && owner.nonce === this.identity.nonce && owner.boot === this.identity.boot
  }

  private async removeOlder(names: readonly OwnerName[], newest: OwnerName): Promise<void> {
    for (const name of names) {
      const isOlder = name.boot < newest.boot || (name.boot === newest.boot && name.sequence < newest.sequence)
      if (!isOlder) continue
      try {
        await this.store.remove(ownerPath(name))
      } catch (error) {
        // The newest one counts; the next update removes what is left.
        this.log.debug('could not remove an old owner file', { name: ownerFileName(name), error: toAppError(error).message })
        return
      }
    }
  }
}
