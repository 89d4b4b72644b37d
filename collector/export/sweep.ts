/**
 * Removes what broken uploads left: files under `_tmp` that are older than a day, that the journal does not know and
 * that no upload of this process is writing. Run at start and then each hour.
 */
import { toAppError } from '../../shared/errors.ts'
import type { Clock, Log } from '../../shared/system.ts'
import type { Journal } from './journal.ts'
import { TEMP_DIRECTORY } from './layout.ts'
import type { RemoteStore } from './remote-store.ts'

export const SWEEP_INTERVAL_MS = 3_600_000
const DEBRIS_AGE_MS = 24 * 3_600_000
/** The rest waits for the next sweep. */
const REMOVES_MAX = 1000

async function sweepTemps(system: { clock: Clock; log: Log }, found: { store: RemoteStore; journal: Journal; liveTemps: ReadonlySet<string> }): Promise<number> {
  const known = new Set([...found.liveTemps, ...journaledTemps(found.journal)])
  const oldest = system.clock.nowMs() - DEBRIS_AGE_MS
  let removed = 0
  for (const { name, kind, modifiedMs } of await found.store.list(TEMP_DIRECTORY)) {
    const path = `${TEMP_DIRECTORY}/${name}`
    if (kind !== 'file' || modifiedMs >= oldest || known.has(path)) continue
    await found.store.remove(path)
    removed += 1
    if (removed >= REMOVES_MAX) break
  }
  if (removed > 0) system.log.info('removed debris of broken uploads', { files: removed })
  return removed
}

function* journaledTemps(journal: Journal): Generator<string> {
  for (const segments of journal.partitions()) {
    for (const { progress } of segments.values()) {
      if (progress.kind !== 'encoded') continue
      for (const file of progress.progress.values()) if (file.kind === 'uploaded' || file.kind === 'verified') yield file.temp
    }
  }
}

/** A sweep that can't be done now is not worth stopping an export for. */
export async function sweepQuietly(...args: Parameters<typeof sweepTemps>): Promise<void> {
  try {
    await sweepTemps(...args)
  } catch (error) {
    args[0].log.warn('could not sweep the temp folder of the store', { error: toAppError(error).message })
  }
}
