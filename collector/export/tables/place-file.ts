/**
 * Puts one file under its final name on the store, once: upload to `_tmp`, look at length and checksum, rename. Called
 * again after a crash anywhere it looks first and adopts what is there, if every byte of it is ours.
 *
 * What each crash leaves: in the upload a temp file that nobody knows (swept), behind the rename the finished file. What
 * stands under our name and is not ours is moved aside, never removed.
 */
import { AppError, toAppError } from '../../../shared/errors.ts'
import type { Log, Random } from '../../../shared/system.ts'
import type { Offset } from '../../../shared/types.ts'
import { TEMP_DIRECTORY } from '../layout.ts'
import type { Owner } from '../owner.ts'
import { isContent, type ByteSource, type RemoteStore } from '../remote-store.ts'
import { quarantinedTablePath, tableTempPath } from './table-layout.ts'

export interface PlaceContext {
  readonly store: RemoteStore
  readonly random: Random
  readonly log: Log
  readonly owner: () => Owner
  readonly signal: AbortSignal
  readonly liveTemps: Set<string>
  readonly onUploaded: (lengthBytes: number) => void
  readonly onQuarantined: (path: string) => void
}

export interface PlacedFile {
  /** Whose file it is: another collector that took the store is noticed before the rename. */
  readonly at: { readonly topic: string; readonly partition: number }
  readonly path: string
  readonly source: ByteSource
  readonly sha256: string
}

const ATTEMPTS_MAX = 4

/** CORRUPT_DATA: the local bytes are not those that were announced. Everything else may be tried again. */
export async function placeFile(context: PlaceContext, file: PlacedFile): Promise<void> {
  const { store } = context
  const expected = { lengthBytes: file.source.lengthBytes, sha256: file.sha256, source: file.source }
  await store.makeDirectories(TEMP_DIRECTORY)
  await store.makeDirectories(file.path.slice(0, file.path.lastIndexOf('/')))
  for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt += 1) {
    if (context.signal.aborted) throw new AppError('ABORTED', 'the export was stopped')
    const found = await store.matches(file.path, expected)
    if (found === 'same') return
    if (found !== 'missing') await moveAside(context, file)
    await uploadAndRename(context, file)
  }
  if ((await store.matches(file.path, expected)) === 'same') return
  throw new AppError('REMOTE_ERROR', `${file.path} does not settle: uploads keep arriving damaged`)
}

/** Its answers prove nothing; the caller looks at the final name again. */
async function uploadAndRename(context: PlaceContext, file: PlacedFile): Promise<void> {
  const { store, liveTemps } = context
  const temp = tableTempPath(context.random.bytes(12).toString('hex'))
  liveTemps.add(temp)
  try {
    await store.put(temp, file.source, { signal: context.signal })
    context.onUploaded(file.source.lengthBytes)
    const match = await store.matches(temp, { lengthBytes: file.source.lengthBytes, sha256: file.sha256, source: file.source })
    if (match === 'same') {
      await assertOurs(context, file)
      if (await store.rename(temp, file.path)) return
    } else {
      if (!(await isContent(file.source, file.sha256))) throw new AppError('CORRUPT_DATA', `the local copy of ${file.path} is not what was made`)
      context.log.warn('an upload arrived damaged and is sent again', { temp, found: match })
    }
    await removeQuietly(context, temp)
  } catch (error) {
    await removeQuietly(context, temp)
    throw error
  } finally {
    liveTemps.delete(temp)
  }
}

/** Raw segments have claimed these offsets long ago, so this only looks whether the store is still ours. */
async function assertOurs(context: PlaceContext, { at }: PlacedFile): Promise<void> {
  await context.owner().claim(at, 0 as Offset)
}

async function moveAside(context: PlaceContext, file: PlacedFile): Promise<void> {
  const { store } = context
  const aside = quarantinedTablePath(file.path, context.random.bytes(4).toString('hex'))
  await assertOurs(context, file)
  await store.makeDirectories(aside.directory)
  if (!(await store.rename(file.path, aside.path)) && (await store.stat(file.path)) !== undefined) {
    throw new AppError('REMOTE_ERROR', `${file.path} is not ours and can't be moved aside`, { hint: 'look at the file and at the permissions of its folder' })
  }
  context.log.error('a file that is not ours stood under the name of a table file', { path: file.path, movedTo: aside.path })
  context.onQuarantined(aside.path)
}

async function removeQuietly(context: PlaceContext, path: string): Promise<void> {
  try {
    await context.store.remove(path)
  } catch (error) {
    context.log.debug('could not remove a temp file', { path, error: toAppError(error).message })
  }
}
