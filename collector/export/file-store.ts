/**
 * A RemoteStore in a local folder (`file:///…`): the demo's store, and the way out for people who mount something. Same
 * semantics as WebHDFS, so that the exporter has one path: rename never replaces, put never overwrites.
 *
 * Durable on return: `put` syncs the file and its directory, `rename` and `remove` sync the directories they change,
 * `matches` syncs what it calls the same.
 * Two processes on one folder are told apart by the owner file, not here: between the look and the rename another
 * process could take the name.
 */
import { AppError, errnoOf } from '../../shared/errors.ts'
import { parentOf } from '../../shared/files.ts'
import type { FileSystem, FileStat } from '../../shared/system.ts'
import { ensureDirectory, readRange, writeAll } from './local-file.ts'
import { matchesByReading, type ContentMatch, type ExpectedContent, type RemoteStat, type RemoteStore } from './remote-store.ts'

/** `root`: absolute path; made on first use. */
export function createFileStore(fs: FileSystem, root: string): RemoteStore {
  const resolve = (path: string): string => {
    if (path.split('/').some((part) => part === '..' || part === '.')) throw new AppError('BAD_REQUEST', `${path} leaves the store`)
    return path === '' ? root : `${root}/${path}`
  }
  const store: RemoteStore = {
    description: `file://${root}`,
    put: (path, source, options) => translated(path, () => putFile(fs, resolve(path), source.open(), options?.signal)),
    stat: (path) => translated(path, async () => toRemoteStat(await fs.stat(resolve(path), { followSymlinks: true }))),
    rename: (from, to) => translated(from, () => renameNew(fs, resolve(from), resolve(to))),
    remove: (path) => translated(path, () => removeFile(fs, resolve(path))),
    makeDirectories: (path) => translated(path, () => ensureDirectory(fs, resolve(path))),
    read: (path, range) => readTranslated(fs, { path, resolved: resolve(path) }, range),
    list: (path) => translated(path, () => listDirectory(fs, resolve(path))),
    // It has no other checksum than reading everything.
    fingerprint: () => undefined,
    matches: (path, expected) => matchesDurably({ fs, store }, { path, resolved: resolve(path) }, expected),
    close: () => Promise.resolve(),
  }
  return store
}

async function putFile(fs: FileSystem, path: string, pieces: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): Promise<void> {
  const file = await fs.open(path, 'create')
  try {
    let at = 0
    for await (const piece of pieces) {
      if (signal?.aborted === true) throw new AppError('ABORTED', 'the upload was stopped')
      await writeAll(file, piece, at)
      at += piece.length
    }
    await file.datasync()
  } finally {
    await file.close()
  }
  await fs.syncDirectory(parentOf(path))
}

async function renameNew(fs: FileSystem, from: string, to: string): Promise<boolean> {
  const source = await fs.stat(from)
  const parent = await fs.stat(parentOf(to), { followSymlinks: true })
  if (source === undefined || parent?.kind !== 'directory') return false
  if ((await fs.stat(to)) !== undefined) return false
  await fs.rename(from, to)
  await fs.syncDirectory(parentOf(to))
  if (parentOf(from) !== parentOf(to)) await fs.syncDirectory(parentOf(from))
  return true
}

/** An earlier life may have been killed between a rename and its sync: what is found then is in the page cache only. */
async function matchesDurably(
  { fs, store }: { fs: FileSystem; store: RemoteStore },
  file: { path: string; resolved: string },
  expected: ExpectedContent,
): Promise<ContentMatch> {
  const match = await matchesByReading(store, file.path, expected)
  if (match !== 'same') return match
  return translated(file.path, async () => {
    const handle = await fs.open(file.resolved, 'read')
    try {
      await handle.datasync()
    } finally {
      await handle.close()
    }
    await fs.syncDirectory(parentOf(file.resolved))
    return match
  })
}

async function removeFile(fs: FileSystem, path: string): Promise<boolean> {
  try {
    await fs.remove(path)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return false
    throw error
  }
  await fs.syncDirectory(parentOf(path))
  return true
}

async function listDirectory(fs: FileSystem, path: string): Promise<{ name: string; kind: 'file' | 'directory'; lengthBytes: number; modifiedMs: number }[]> {
  if ((await fs.stat(path, { followSymlinks: true })) === undefined) return []
  const found = []
  for (const { name } of await fs.list(path)) {
    // A name may go away between the list and the look: somebody else's temp file.
    const stat = toRemoteStat(await fs.stat(`${path}/${name}`))
    if (stat !== undefined) found.push({ name, ...stat })
  }
  return found
}

function toRemoteStat(stat: FileStat | undefined): RemoteStat | undefined {
  if (stat === undefined) return undefined
  const isDirectory = stat.kind === 'directory'
  return { kind: isDirectory ? 'directory' : 'file', lengthBytes: isDirectory ? 0 : stat.size, modifiedMs: stat.mtimeMs }
}

async function* readTranslated(
  fs: FileSystem,
  file: { path: string; resolved: string },
  range: { offset: number; length: number; signal?: AbortSignal },
): AsyncGenerator<Uint8Array> {
  const stat = await translated(file.path, () => fs.stat(file.resolved, { followSymlinks: true }))
  if (stat === undefined) throw new AppError('NOT_FOUND', `${file.path} is not on the store`)
  if (range.offset + range.length > stat.size) {
    throw new AppError('OFFSET_OUT_OF_RANGE', `${file.path} has ${stat.size} bytes, asked for ${range.offset}+${range.length}`)
  }
  for await (const piece of readRange(fs, file.resolved, range)) {
    if (range.signal?.aborted === true) throw new AppError('ABORTED', 'the read was stopped')
    yield piece
  }
}

async function translated<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw translateErrno(path, error)
  }
}

function translateErrno(path: string, error: unknown): unknown {
  if (error instanceof AppError) return error
  const cause = { cause: error }
  const errno = errnoOf(error)
  if (errno === undefined) return error
  if (errno === 'ENOENT') return new AppError('NOT_FOUND', `${path} is not on the store`, cause)
  if (errno === 'EEXIST') return new AppError('CONFLICT', `${path} exists already`, cause)
  if (errno === 'ENOSPC' || errno === 'EDQUOT') {
    return new AppError('DISK_FULL', `the store is full (${path})`, { ...cause, hint: 'free space where the export folder is' })
  }
  if (refusals.has(errno)) {
    return new AppError('REMOTE_REFUSED', `the store refuses ${path}`, { ...cause, hint: 'check owner and permissions of the export folder' })
  }
  return new AppError('REMOTE_ERROR', `the store failed at ${path}`, cause)
}

const refusals: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EISDIR', 'ENAMETOOLONG'])
