/**
 * A restore takes an export store over from the collector that wrote to it. Whether that one still lives can't be asked,
 * but a living one writes its owner file anew each minute: a store whose owner was quiet for longer may be taken. Times
 * are the store's own, so that a wrong clock here decides nothing.
 */
import { AppError } from '../../shared/errors.ts'
import type { Random } from '../../shared/system.ts'
import { ownerPath, parseSegmentPath, partitionDirectory, probePath, quarantineDirectory, quarantinePath, segmentName, TEMP_DIRECTORY, type SegmentKey } from './layout.ts'
import { HOLD_MS, type FoundOwner } from './owner.ts'
import { bufferSource, type RemoteStore } from './remote-store.ts'

/** Two lives of its sign and more: a slow store must not look like a dead collector. */
const QUIET_MS = 3 * HOLD_MS

/** CONFLICT while the owner may be alive. */
export async function checkIsQuiet(context: { store: RemoteStore; random: Random }, found: FoundOwner): Promise<void> {
  const name = found.ownerName ?? found.names[0]
  const owned = name === undefined ? undefined : await context.store.stat(ownerPath(name))
  if (owned === undefined) return
  const quietMs = (await storeTimeMs(context)) - owned.modifiedMs
  if (quietMs >= QUIET_MS) return
  throw new AppError('CONFLICT', `a collector wrote to the export folder ${Math.max(0, Math.round(quietMs / 1000))} s ago, so it may still be running`, {
    hint: `stop it if it is; then wait until it was quiet for ${QUIET_MS / 60_000} minutes, or add --take-over if it surely is dead`,
  })
}

async function storeTimeMs({ store, random }: { store: RemoteStore; random: Random }): Promise<number> {
  const path = probePath(random.bytes(8).toString('hex'))
  await store.makeDirectories(TEMP_DIRECTORY)
  await store.put(path, bufferSource(Buffer.from('restore\n')))
  const stat = await store.stat(path)
  await store.remove(path)
  if (stat === undefined) throw new AppError('REMOTE_ERROR', `${path} was put and is not there`)
  return stat.modifiedMs
}

/**
 * Files of segments that have no manifest: their upload never came to its end, and it never will under these names.
 * Readers do not see them; a person who looks at the folder must not either. Answers what was moved.
 */
export async function quarantineUnfinished(context: { store: RemoteStore; random: Random }, at: { topic: string; partition: number }): Promise<string[]> {
  const { store, random } = context
  const directory = partitionDirectory(at.topic, at.partition)
  const files = (await store.list(directory)).map(({ name }) => parseSegmentPath(`${directory}/${name}`)).filter((file) => file !== undefined)
  const whole = new Set(files.filter(({ kind }) => kind === 'manifest.json').map(({ key }) => segmentName(key)))
  const moved: string[] = []
  for (const { key, kind } of files) {
    if (whole.has(segmentName(key))) continue
    const from = `${directory}/${segmentName(key)}.${kind}`
    const to = quarantinePath(key, kind, random.bytes(4).toString('hex'))
    await store.makeDirectories(quarantineDirectory(key satisfies SegmentKey))
    if (!(await store.rename(from, to)) && (await store.stat(from)) !== undefined) throw new AppError('REMOTE_ERROR', `${from} can't be moved aside`)
    moved.push(to)
  }
  return moved
}
