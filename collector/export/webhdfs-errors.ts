/**
 * What a WebHDFS answer other than success means. The status says nothing (HDFS answers 403 to every IOException,
 * HttpFS 500 to nearly everything), so the name of the remote exception decides; where HttpFS hides it behind
 * `RemoteException` the text is searched for it. Pure: no I/O here.
 *
 * Source of the rules: Hadoop's `ExceptionHandler`, `HttpFSExceptionProvider`, and runs against 3.5.0 and 3.4.2.
 */
import * as v from 'valibot'
import { AppError } from '../../shared/errors.ts'

export type RemoteFailureKind =
  /** This NameNode is not the active one: ask the next, at once. */
  | 'standby'
  /** The NameNode is starting: the same one, a little later. */
  | 'starting'
  | 'safe-mode'
  /** Permission, quota, too many items: stays so until a person changes something. */
  | 'refused'
  | 'missing'
  | 'exists'
  /** Another writer holds the lease: only a fresh name helps. */
  | 'lease'
  | 'bad-token'
  | 'unauthenticated'
  | 'out-of-range'
  | 'unsupported'
  /** The write may have succeeded: look. */
  | 'unknown'
  | 'transient'

export interface RemoteFailure {
  readonly kind: RemoteFailureKind
  readonly exception: string
  readonly message: string
  readonly status: number
}

const remoteExceptionSchema = v.object({
  RemoteException: v.object({ exception: v.string(), javaClassName: v.optional(v.string()), message: v.optional(v.nullable(v.string())) }),
})

/** First match wins, against the exception's name, then against the text, where HttpFS leaves the class name. */
const byName: readonly (readonly [RegExp, RemoteFailureKind])[] = [
  [/StandbyException/, 'standby'],
  [/SafeModeException/, 'safe-mode'],
  [/RetriableException/, 'starting'],
  [/AlreadyBeingCreatedException|RecoveryInProgressException|LeaseExpiredException/, 'lease'],
  [/FileAlreadyExistsException/, 'exists'],
  [/FileNotFoundException/, 'missing'],
  [/(DS|NS)?QuotaExceededException|QuotaByStorageTypeExceededException|MaxDirectoryItemsExceededException|PathComponentTooLongException/, 'refused'],
  [/InvalidToken|TokenExpired/, 'bad-token'],
  [/AccessControlException|AuthorizationException|ParentNotDirectoryException|InvalidPathException/, 'refused'],
  [/UnsupportedOperationException/, 'unsupported'],
]

const byText: readonly (readonly [RegExp, RemoteFailureKind])[] = [
  [/out of the range/i, 'out-of-range'],
  [/lease is currently owned by|already the current lease holder/i, 'lease'],
  [/already exists/i, 'exists'],
  [/does not have enough number of replicas/i, 'unknown'],
  [/Name ?node is in safe mode/i, 'safe-mode'],
  [/in startup mode|still not started/i, 'starting'],
]

const MESSAGE_CHARACTERS_MAX = 300

export function classifyFailure(status: number, body: string): RemoteFailure {
  const parsed = parseRemoteException(body)
  const exception = parsed?.exception ?? ''
  const message = firstLine(parsed?.message ?? (parsed === undefined ? 'no error body that Hadoop would send' : ''))
  return { kind: kindOf(status, { exception, message, isHadoop: parsed !== undefined }), exception, message, status }
}

function kindOf(status: number, facts: { exception: string; message: string; isHadoop: boolean }): RemoteFailureKind {
  // A token error may wrap StandbyException (HDFS-6475): then another NameNode helps and a fresh token does not.
  if (facts.message.includes('StandbyException')) return 'standby'
  const named = byName.find(([pattern]) => pattern.test(facts.exception))
  // SecurityException is what Hadoop makes of an invalid token ("Failed to obtain user group information").
  if (named === undefined && facts.exception === 'SecurityException') return /InvalidToken|token/i.test(facts.message) ? 'bad-token' : 'refused'
  if (named !== undefined) return named[1]
  const inText = [...byText, ...byName].find(([pattern]) => pattern.test(facts.message))
  if (inText !== undefined) return inText[1]
  if (status === 401) return 'unauthenticated'
  if (status === 404 && facts.isHadoop) return 'missing'
  if (status === 400 && facts.isHadoop) return 'unsupported'
  return 'transient'
}

function parseRemoteException(body: string): { exception: string; message: string } | undefined {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch (error) {
    if (error instanceof SyntaxError) return undefined
    throw error
  }
  const result = v.safeParse(remoteExceptionSchema, value)
  if (!result.success) return undefined
  const { exception, message } = result.output.RemoteException
  return { exception, message: message ?? '' }
}

/** Java puts whole stack traces into messages. */
function firstLine(text: string): string {
  const line = text.split('\n', 1)[0] ?? ''
  return line.length > MESSAGE_CHARACTERS_MAX ? `${line.slice(0, MESSAGE_CHARACTERS_MAX)}…` : line
}

/** The failure as what callers of a RemoteStore expect. `what`: `CREATE /tailrace/x`, without query and token. */
export function failureToError(failure: RemoteFailure, what: string): AppError {
  const text = `${what}: ${failure.exception || `status ${failure.status}`}${failure.message === '' ? '' : `: ${failure.message}`}`
  switch (failure.kind) {
    case 'missing':
      return new AppError('NOT_FOUND', text)
    case 'exists':
      return new AppError('CONFLICT', text)
    case 'out-of-range':
      return new AppError('OFFSET_OUT_OF_RANGE', text)
    case 'safe-mode':
      return new AppError('UNAVAILABLE', text, { hint: 'HDFS is in safe mode: look at the NameNode; export goes on by itself afterwards' })
    case 'refused':
      return new AppError('REMOTE_REFUSED', text, { hint: 'check permissions and quotas of the export folder on HDFS' })
    case 'unauthenticated':
    case 'bad-token':
      return new AppError('REMOTE_REFUSED', text, { hint: 'check hdfsAuth, hdfsUser and hdfsTokenFile' })
    case 'unsupported':
      return new AppError('REMOTE_REFUSED', text, { hint: 'the server does not take this request' })
    case 'unknown':
      return new AppError('UNKNOWN_OUTCOME', text)
    case 'standby':
    case 'starting':
    case 'lease':
    case 'transient':
      return new AppError('REMOTE_ERROR', text)
  }
}
