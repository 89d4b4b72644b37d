/**
 * The answer to `GET /v1/query`: blocks of record lines, then the end line. Whether the end line came is the only proof
 * that nothing was cut off. One reader at a time.
 */
import { AppError } from '../../shared/errors.ts'
import { parseJson, paths, queryEndSchema, type QueryEnd, type QueryRecord } from '../../shared/wire.ts'
import type { CollectorClient, QueryValues } from './collector-client.ts'
import { ExitError, exitCodes } from './exit-codes.ts'
import { lineBlocks } from './line-blocks.ts'

/** A record of 8 MiB whose every byte JSON escapes in six characters, and once more as base64. */
const LINE_BYTES_MAX = 64 * 1024 * 1024
const END_PREFIX = Buffer.from('{"end":')

export class QueryStream {
  /** Set once the end line came. */
  end: QueryEnd['end'] | undefined
  private readonly client: CollectorClient
  private readonly query: QueryValues

  constructor(client: CollectorClient, query: QueryValues) {
    this.client = client
    this.query = query
  }

  /** Blocks of whole record lines, each line ended by `\n`. */
  async *blocks(): AsyncGenerator<Buffer> {
    // A scan that finds nothing may be silent for as long as it takes.
    const response = await this.client.open(paths.query, { query: this.query, bodyTimeoutMs: 0 })
    for await (const block of lineBlocks(translateBreak(response.body), LINE_BYTES_MAX)) {
      const lastLineAt = block.lastIndexOf(0x0a, block.length - 2) + 1
      const isEnd = block.subarray(lastLineAt, lastLineAt + END_PREFIX.length).equals(END_PREFIX)
      if (isEnd) this.end = parseJson(queryEndSchema, block.toString('utf8', lastLineAt), 'end of the query').end
      const records = isEnd ? block.subarray(0, lastLineAt) : block
      if (records.length === 0) continue
      if (records[records.length - 1] !== 0x0a) throw cutOff()
      yield records
    }
    if (this.end === undefined) throw cutOff()
  }
}

/** Lines were printed already, so a break in the middle is a partial result and not a failure to connect. */
async function* translateBreak(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* body
  } catch (error) {
    throw error instanceof AppError && error.code === 'UNKNOWN_OUTCOME' ? cutOff(error) : error
  }
}

function cutOff(cause?: AppError): AppError {
  return new ExitError(exitCodes.partial, 'UNKNOWN_OUTCOME', 'the answer was cut off before its end', {
    cause,
    hint: 'the collector stopped or the connection broke; what was printed is good but not all',
  })
}

/** Records of a block, one after another. */
export function* recordsIn(block: Buffer): Generator<QueryRecord> {
  const text = block.toString('utf8')
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf('\n', at)
    const end = newline < 0 ? text.length : newline
    if (end > at) yield parseQueryRecord(text.slice(at, end))
    at = end + 1
  }
}

/**
 * The same checks as `queryRecordSchema`, by hand: a schema library costs more than the rest of the work on a line, and
 * there may be a hundred million of them.
 */
function parseQueryRecord(json: string): QueryRecord {
  let value: unknown
  try {
    value = JSON.parse(json)
  } catch (error) {
    throw new AppError('REMOTE_ERROR', 'a line of the answer is not JSON', { cause: error })
  }
  if (isQueryRecord(value)) return value
  throw new AppError('REMOTE_ERROR', `a line of the answer is not a record: ${json.slice(0, 100)}`)
}

function isQueryRecord(value: unknown): value is QueryRecord {
  if (typeof value !== 'object' || value === null) return false
  const record: Partial<Record<keyof QueryRecord, unknown>> = value
  return (
    typeof record.topic === 'string' && Number.isSafeInteger(record.partition) && Number.isSafeInteger(record.offset) &&
    typeof record.ts === 'number' && typeof record.host === 'string' && typeof record.path === 'string' &&
    typeof record.line === 'string' && (record.b64 === undefined || typeof record.b64 === 'string')
  )
}

/** The record's value, byte for byte. */
export function valueOf(record: QueryRecord): Buffer {
  return record.b64 === undefined ? Buffer.from(record.line, 'utf8') : Buffer.from(record.b64, 'base64')
}
