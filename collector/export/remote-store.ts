/**
 * What the exporter needs of a place to put files: seven operations, so that HDFS, HttpFS, Ozone and a local folder all
 * do. One contract suite (test/collector/export/remote-store-contract.ts) says the same of each of them.
 *
 * Paths are relative to the store's root, made by layout.ts. Calls for different paths may run at the same time. After
 * `put` answers, nothing is proved: a store may have lost the tail of an upload, so the exporter asks `matches` before
 * it renames. Existence alone never means anything.
 *
 * Rejections are AppErrors: NOT_FOUND; CONFLICT (the name is taken); CANNOT_CONNECT (certainly not done); UNKNOWN_OUTCOME
 * (may have been done: look before doing it again); REMOTE_ERROR (transient); REMOTE_REFUSED, UNAVAILABLE and DISK_FULL
 * (stays so until a person or time changes it: permission, quota, safe mode); ABORTED.
 */
import { createHash } from 'node:crypto'
import { AppError } from '../../shared/errors.ts'

/** Bytes on the local disk that may be read again and again, each time from the start. */
export interface ByteSource {
  readonly lengthBytes: number
  /** Pieces of at most 1 MiB, which the reader owns. */
  open(): AsyncIterable<Uint8Array>
  /** The same, for who is done with a piece soon: each may be overwritten once the fourth after it is asked for. */
  peek?(): AsyncIterable<Uint8Array>
}

export interface RemoteStat {
  readonly kind: 'file' | 'directory'
  readonly lengthBytes: number
  readonly modifiedMs: number
}

export interface RemoteName extends RemoteStat {
  readonly name: string
}

export interface ExpectedContent {
  readonly lengthBytes: number
  /** Lower-case hex. */
  readonly sha256: string
  /** The local twin, where there is one: lets a store compare by its own checksum instead of reading everything back. */
  readonly source?: ByteSource
  /** The store's own checksum of it, by `fingerprint`, where it was taken as the bytes went by: spares reading `source`. */
  readonly fingerprint?: string
}

/** Fed with a content piece by piece, in order. */
export interface ContentHasher {
  update(piece: Uint8Array): void
  /** Once, behind the last piece. */
  digest(): string
}

export type ContentMatch = 'same' | 'missing' | 'length' | 'checksum'

export interface RemoteStore {
  /** For people: never holds a secret. */
  readonly description: string
  /** Makes a new file; CONFLICT when the name is taken. Its directory must exist. */
  put(path: string, source: ByteSource, options?: { signal?: AbortSignal }): Promise<void>
  /** undefined when nothing is there. */
  stat(path: string): Promise<RemoteStat | undefined>
  /** false for a missing source, a missing parent and a taken name: the caller looks at both names and decides. */
  rename(from: string, to: string): Promise<boolean>
  /** One file; false when nothing was there. */
  remove(path: string): Promise<boolean>
  /** The directory and all above it; fine when it exists. `''` is the root. */
  makeDirectories(path: string): Promise<void>
  /** Exactly the bytes asked for, or a rejection; OFFSET_OUT_OF_RANGE behind the end. */
  read(path: string, range: { offset: number; length: number; signal?: AbortSignal }): AsyncIterable<Uint8Array>
  /** Empty when the directory does not exist. */
  list(path: string): Promise<readonly RemoteName[]>
  /** For `matches`, of a content of this length; undefined from a store that has no checksum of its own. */
  fingerprint(lengthBytes: number): ContentHasher | undefined
  /** Compares length and checksum, the latter as the store stores it, not as it was sent. What is the same is durable. */
  matches(path: string, expected: ExpectedContent): Promise<ContentMatch>
  close(): Promise<void>
}

/** `matches` for every store that has no checksum of its own: reads the whole file back. */
export async function matchesByReading(store: Pick<RemoteStore, 'stat' | 'read'>, path: string, expected: ExpectedContent): Promise<ContentMatch> {
  const stat = await store.stat(path)
  if (stat === undefined) return 'missing'
  if (stat.kind !== 'file' || stat.lengthBytes !== expected.lengthBytes) return 'length'
  const pieces = stat.lengthBytes === 0 ? [] : store.read(path, { offset: 0, length: stat.lengthBytes })
  return (await sha256Of(pieces)) === expected.sha256 ? 'same' : 'checksum'
}

/** Whether the local bytes are (still) those with this SHA-256. */
export async function isContent(source: ByteSource, sha256: string): Promise<boolean> {
  return (await sha256Of(source.peek?.() ?? source.open())) === sha256
}

async function sha256Of(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of pieces) hash.update(piece)
  return hash.digest('hex')
}

/** A whole small file. MESSAGE_TOO_LARGE above `bytesMax`, NOT_FOUND when absent. */
export async function readSmall(store: Pick<RemoteStore, 'stat' | 'read'>, path: string, bytesMax: number): Promise<Buffer> {
  const stat = await store.stat(path)
  if (stat === undefined) throw new AppError('NOT_FOUND', `${path} is not on the store`)
  if (stat.lengthBytes > bytesMax) throw new AppError('MESSAGE_TOO_LARGE', `${path} has ${stat.lengthBytes} bytes, over ${bytesMax}`)
  const pieces: Uint8Array[] = []
  if (stat.lengthBytes > 0) {
    for await (const piece of store.read(path, { offset: 0, length: stat.lengthBytes })) pieces.push(piece)
  }
  return Buffer.concat(pieces)
}

export function bufferSource(bytes: Uint8Array): ByteSource {
  return {
    lengthBytes: bytes.length,
    open: async function* () {
      if (bytes.length > 0) yield bytes
    },
  }
}
