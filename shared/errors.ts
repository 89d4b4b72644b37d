/**
 * The one error class for everything that is expected to go wrong (disk full, peer gone, bad input), and `assert` for
 * what is a bug. A code belongs to the closed set below; one table maps it to its HTTP status and to Kafka's error
 * number, so that no handler chooses a status by itself. Foreign errors are translated once, at the seam that met them.
 */

interface CodeFacts {
  /** HTTP status of an answer that carries this code. */
  readonly status: number
  /** Kafka protocol error number, -1 (UNKNOWN_SERVER_ERROR) where Kafka has none. */
  readonly kafka: number
  /** Whether the same request may succeed later without anybody changing anything. */
  readonly retryable: boolean
}

const codes = {
  // Requests that can never succeed as they are.
  BAD_REQUEST: { status: 400, kafka: 42, retryable: false },
  BAD_FRAME: { status: 400, kafka: 42, retryable: false },
  CORRUPT_MESSAGE: { status: 400, kafka: 2, retryable: false },
  INVALID_RECORD: { status: 400, kafka: 87, retryable: false },
  ENVELOPE_MISMATCH: { status: 400, kafka: 87, retryable: false },
  UNSUPPORTED_COMPRESSION: { status: 400, kafka: 76, retryable: false },
  UNSUPPORTED_VERSION: { status: 400, kafka: 35, retryable: false },
  INVALID_TOPIC: { status: 400, kafka: 17, retryable: false },
  INVALID_PARTITIONS: { status: 400, kafka: 37, retryable: false },
  INVALID_QUERY: { status: 400, kafka: 42, retryable: false },
  INVALID_CONFIG: { status: 400, kafka: 40, retryable: false },
  UNAUTHENTICATED: { status: 401, kafka: 58, retryable: false },
  FORBIDDEN: { status: 403, kafka: 29, retryable: false },
  HOST_MISMATCH: { status: 403, kafka: 29, retryable: false },
  NOT_FOUND: { status: 404, kafka: 3, retryable: false },
  UNKNOWN_TOPIC: { status: 404, kafka: 3, retryable: false },
  UNKNOWN_STREAM: { status: 404, kafka: 59, retryable: false },
  METHOD_NOT_ALLOWED: { status: 405, kafka: 42, retryable: false },
  TOPIC_EXISTS: { status: 409, kafka: 36, retryable: false },
  CONFLICT: { status: 409, kafka: 45, retryable: false },
  LENGTH_REQUIRED: { status: 411, kafka: 42, retryable: false },
  MESSAGE_TOO_LARGE: { status: 413, kafka: 10, retryable: false },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, kafka: 42, retryable: false },
  OFFSET_OUT_OF_RANGE: { status: 416, kafka: 1, retryable: false },
  // Load and health.
  REQUEST_TIMED_OUT: { status: 408, kafka: 7, retryable: true },
  THROTTLED: { status: 429, kafka: 89, retryable: true },
  UNAVAILABLE: { status: 503, kafka: 15, retryable: true },
  DISK_FULL: { status: 507, kafka: 56, retryable: true },
  STORAGE_ERROR: { status: 500, kafka: 56, retryable: false },
  CORRUPT_DATA: { status: 500, kafka: 56, retryable: false },
  LOCKED: { status: 500, kafka: 56, retryable: false },
  CANNOT_LISTEN: { status: 500, kafka: -1, retryable: false },
  NOT_PERMITTED: { status: 500, kafka: -1, retryable: false },
  RESTORE_REQUIRED: { status: 503, kafka: 56, retryable: false },
  // Met as a client.
  CANNOT_CONNECT: { status: 502, kafka: 8, retryable: true },
  WRONG_CLUSTER: { status: 409, kafka: 104, retryable: false },
  REMOTE_ERROR: { status: 502, kafka: -1, retryable: true },
  REMOTE_REFUSED: { status: 502, kafka: -1, retryable: false },
  UNKNOWN_OUTCOME: { status: 502, kafka: 7, retryable: true },
  ABORTED: { status: 499, kafka: -1, retryable: false },
  INTERNAL: { status: 500, kafka: -1, retryable: false },
} as const satisfies Record<string, CodeFacts>

export type ErrorCode = keyof typeof codes

export interface AppErrorDetails {
  /** What the operator can do about it, as a sentence without a full stop. */
  readonly hint?: string
  readonly cause?: unknown
  /** Overrides the code's own rule, for the rare case that knows better. */
  readonly retryable?: boolean
  /** For THROTTLED and UNAVAILABLE: when to come back. */
  readonly retryAfterMs?: number
}

export class AppError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly retryable: boolean
  readonly retryAfterMs: number | undefined

  constructor(code: ErrorCode, message: string, details: AppErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'AppError'
    this.code = code
    this.hint = details.hint
    this.retryable = details.retryable ?? codes[code].retryable
    this.retryAfterMs = details.retryAfterMs
  }

  get httpStatus(): number {
    return codes[this.code].status
  }

  get kafkaError(): number {
    return codes[this.code].kafka
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(codes, value)
}

/** Any thrown value as an AppError; what is not one already becomes INTERNAL and keeps the original as its cause. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new AppError('INTERNAL', message, { cause: error })
}

/** The errno name (`ENOSPC`, `ECONNREFUSED`) of a thrown value or of its causes, or undefined. */
export function errnoOf(error: unknown): string | undefined {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth += 1) {
    const code: unknown = Reflect.get(at, 'code')
    if (typeof code === 'string' && /^E[A-Z0-9]+$/.test(code)) return code
  }
  return undefined
}

/** A broken assertion is a bug: the process logs it and dies, and recovery is an ordinary, tested path. */
export class BugError extends Error {
  constructor(message: string) {
    super(`BUG: ${message}`)
    this.name = 'BugError'
  }
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new BugError(message)
}

/** Ends a switch over a union: the compiler objects when a case is missing. */
export function unreachable(value: never): never {
  throw new BugError(`unreachable: ${JSON.stringify(value)}`)
}
