/** Exit codes of every command, and which error leads to which. Scripts depend on these numbers. */
import { AppError, type AppErrorDetails, type ErrorCode } from '../../shared/errors.ts'

export const exitCodes = {
  ok: 0,
  /** Nothing found; of `verify`: a difference. */
  nothing: 1,
  usage: 2,
  /** Part of the data could not be read or was damaged; the rest was printed. */
  partial: 3,
  /** Cannot connect, not allowed, or the collector failed. */
  refused: 4,
  sinkFailed: 5,
  interrupted: 130,
  /** The reader of stdout went away, as a shell counts SIGPIPE. */
  brokenPipe: 141,
} as const

/** An expected error that knows its exit code, where the code of the error alone does not tell. */
export class ExitError extends AppError {
  readonly exitCode: number

  constructor(exitCode: number, code: ErrorCode, message: string, details: AppErrorDetails = {}) {
    super(code, message, details)
    this.exitCode = exitCode
  }
}

export function usageError(message: string, hint?: string): ExitError {
  return new ExitError(exitCodes.usage, 'BAD_REQUEST', message, hint === undefined ? {} : { hint })
}

const usageCodes: ReadonlySet<ErrorCode> = new Set([
  'BAD_REQUEST', 'INVALID_QUERY', 'INVALID_TOPIC', 'INVALID_PARTITIONS', 'INVALID_CONFIG', 'MESSAGE_TOO_LARGE',
])
const nothingCodes: ReadonlySet<ErrorCode> = new Set(['NOT_FOUND', 'UNKNOWN_TOPIC', 'UNKNOWN_STREAM', 'TOPIC_EXISTS', 'CONFLICT'])
const partialCodes: ReadonlySet<ErrorCode> = new Set(['CORRUPT_MESSAGE', 'CORRUPT_DATA', 'OFFSET_OUT_OF_RANGE'])

export function exitCodeOf(error: AppError): number {
  if (error instanceof ExitError) return error.exitCode
  if (usageCodes.has(error.code)) return exitCodes.usage
  if (nothingCodes.has(error.code)) return exitCodes.nothing
  if (partialCodes.has(error.code)) return exitCodes.partial
  return exitCodes.refused
}
