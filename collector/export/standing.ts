/**
 * Whose is the store? Asked once per process life, before anything is written to it. The decision itself is `judgeOwner`;
 * here it is fed and carried out.
 */
import { AppError } from '../../shared/errors.ts'
import type { Log, Random } from '../../shared/system.ts'
import type { TopicLog } from '../storage/topic-log.ts'
import { partitionName } from './journal-format.ts'
import type { Journal } from './journal.ts'
import { OWNER_DIRECTORY, TEMP_DIRECTORY } from './layout.ts'
import { judgeOwner, Owner, readOwner, RESTORE_HINT } from './owner.ts'
import { progressOf } from './plan.ts'
import type { RemoteStore } from './remote-store.ts'
import { listSegments } from './store-catalog.ts'

export type Standing =
  /** `error`: what the last question met; undefined before the first answer. */
  | { readonly kind: 'asking'; readonly error: AppError | undefined }
  | { readonly kind: 'ours' }
  | { readonly kind: 'refused'; readonly error: AppError }

export interface StandingContext {
  readonly system: { readonly random: Random; readonly log: Log }
  readonly log: Pick<TopicLog, 'clusterId' | 'logEpoch' | 'topics'>
  readonly store: RemoteStore
  readonly journal: Journal
}

/** Our own journal may be ahead of our own log, when only the log was rolled back. */
export function findRollback(journal: Journal, log: Pick<TopicLog, 'topics'>): AppError | undefined {
  for (const [partition, recordedOffset] of recordedOffsets(journal)) {
    const end = logEnd(log, partition)
    if (end === undefined || end >= recordedOffset) continue
    return new AppError('RESTORE_REQUIRED', `${partition} is exported up to offset ${recordedOffset}, the log ends at ${end}`, {
      hint: RESTORE_HINT,
    })
  }
  return undefined
}

/** Takes the store for this process life. Rejects with RESTORE_REQUIRED, or with what the store answers. */
export async function takeStore(context: StandingContext): Promise<Owner> {
  const { system, log, store, journal } = context
  for (const directory of ['', TEMP_DIRECTORY, OWNER_DIRECTORY]) await store.makeDirectories(directory)
  const found = await readOwner(store)
  if (found.owner === undefined && journal.boot === 0 && (await holdsSegments(store))) {
    throw new AppError('RESTORE_REQUIRED', 'the export folder holds segments of another data folder, and nothing there says whose they are', { hint: RESTORE_HINT })
  }
  const refusal = judgeOwner(found.owner, {
    clusterId: log.clusterId,
    boot: journal.boot,
    nonce: journal.nonce,
    logEnd: (partition) => logEnd(log, partition),
  })
  if (refusal !== undefined) throw refusal
  const boot = Math.max(journal.boot, found.names[0]?.boot ?? 0) + 1
  const nonce = system.random.bytes(16).toString('hex')
  // Before the store hears of it: a boot that it knows and the journal does not would look like a rolled-back disk.
  await journal.append({ type: 'boot', boot, nonce })
  const next = new Map([...Object.entries(found.owner?.next ?? {}), ...recordedOffsets(journal)])
  const owner = new Owner(store, system.log, { identity: { clusterId: log.clusterId, logEpoch: log.logEpoch, boot, nonce }, next })
  await owner.take()
  return owner
}

async function holdsSegments(store: RemoteStore): Promise<boolean> {
  const listed = await listSegments({ store, signal: new AbortController().signal })
  return listed.some(({ keys }) => keys.length > 0)
}

function logEnd(log: Pick<TopicLog, 'topics'>, partition: string): number | undefined {
  for (const topic of log.topics()) {
    for (const each of topic.partitions) {
      if (partitionName({ topic: topic.name, partition: each.partition }) === partition) return each.logEndOffset
    }
  }
  return undefined
}

function recordedOffsets(journal: Journal): Map<string, number> {
  const next = new Map<string, number>()
  for (const segments of journal.partitions()) {
    const key = segments.values().next().value?.key
    const { recordedOffset } = progressOf(segments)
    if (key !== undefined && recordedOffset !== undefined) next.set(partitionName(key), recordedOffset)
  }
  return next
}
