/** What a failed open or read of a source file means, in words for `status`. The one place that knows the errnos. */
import { AppError, errnoOf } from '../shared/errors.ts'

export interface ReadError {
  readonly text: string
  /** Nothing, or another file, stands at the path. */
  readonly isGone: boolean
  /** The descriptor is of no use any more. */
  readonly needsReopen: boolean
}

/** libuv has no name for ESTALE: its `code` is "Unknown system error -116". */
const ESTALE = 116

const words: Readonly<Record<string, string>> = {
  EACCES: 'permission denied: give the agent the right to read it (group adm, or an ACL)',
  EPERM: 'not permitted',
  EMFILE: 'too many open files in this process: raise LimitNOFILE',
  ENFILE: 'too many open files on this machine',
  EIO: 'the disk gives an I/O error',
  ELOOP: 'it is a symbolic link: followSymlinks is off',
  ENXIO: 'it is a socket',
  ENAMETOOLONG: 'its path is too long',
}

export function describeReadError(thrown: unknown): ReadError {
  if (thrown instanceof AppError) return { text: thrown.message, isGone: thrown.code === 'NOT_FOUND', needsReopen: false }
  if (isStale(thrown)) return { text: 'stale file handle: the file server has forgotten it', isGone: false, needsReopen: true }
  const code = errnoOf(thrown)
  if (code === 'ENOENT' || code === 'ENOTDIR') return { text: 'it is gone', isGone: true, needsReopen: false }
  const text = code === undefined ? String(thrown) : (words[code] ?? code)
  return { text, isGone: false, needsReopen: code === 'EIO' || code === 'EBADF' }
}

function isStale(thrown: unknown): boolean {
  return thrown instanceof Error && 'errno' in thrown && Math.abs(Number(thrown.errno)) === ESTALE
}
