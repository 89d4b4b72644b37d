/**
 * Prints `GET /v1/tail` until interrupted. A lost connection is made again and goes on behind the last event that was
 * printed: the id of an event is a cursor of offsets, so no line is lost or doubled.
 */
import { AppError, toAppError } from '../../shared/errors.ts'
import { paths } from '../../shared/wire.ts'
import type { CollectorClient, QueryValues } from './collector-client.ts'
import type { CliContext } from './context.ts'
import { eventBlocks, type ServerEvent } from './event-stream.ts'
import { Output } from './output.ts'
import type { RecordWriter } from './record-format.ts'

/** The server sends a comment every few seconds when it has nothing else. */
const SILENCE_MAX_MS = 60_000
const RETRIES_MAX = 100
const RETRY_FIRST_MS = 250
const RETRY_MAX_MS = 10_000

export interface FollowOptions {
  readonly client: CollectorClient
  readonly context: CliContext
  readonly stdout: Output
  readonly writer: RecordWriter
  readonly values: QueryValues
}

/** Never resolves by itself: it ends by the context's signal, or when the collector stays away. */
export async function follow(options: FollowOptions): Promise<number> {
  const { context } = options
  const stderr = new Output(context.stderr)
  let cursor: string | undefined
  let hasConnected = false
  for (let failures = 0; ; ) {
    try {
      for await (const events of openTail(options, cursor)) {
        hasConnected = true
        if (events.length > 0) failures = 0
        cursor = writeEvents(events, options.writer) ?? cursor
        for (const { type, data } of events) if (type === 'missing') await stderr.line(`missing: ${data}`)
        await options.stdout.flush()
      }
      throw new AppError('REMOTE_ERROR', 'the collector ended the stream')
    } catch (error) {
      const known = toAppError(error)
      failures += 1
      if (context.signal.aborted || !hasConnected || !known.retryable || failures > RETRIES_MAX) throw error
      if (failures === 1) await stderr.line(`tailrace: ${known.message}; trying again`)
      await context.system.clock.sleep(retryDelayMs(failures, context.system.random.next()), context.signal)
    }
  }
}

/** Full jitter: many followers of one collector must not come back in step. */
function retryDelayMs(failures: number, random: number): number {
  return random * Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** Math.min(failures, 10))
}

async function* openTail({ client, values }: FollowOptions, cursor: string | undefined): AsyncGenerator<readonly ServerEvent[]> {
  const response = await client.open(paths.tail, {
    query: cursor === undefined ? values : { ...values, last: undefined, from: undefined },
    headers: cursor === undefined ? {} : { 'last-event-id': cursor },
    bodyTimeoutMs: SILENCE_MAX_MS,
  })
  // An answer without events yet is a connection all the same.
  yield []
  yield* eventBlocks(response.body)
}

/** The id of the last event. */
function writeEvents(events: readonly ServerEvent[], writer: RecordWriter): string | undefined {
  const records = events.filter(({ type }) => type === undefined || type === 'message')
  if (records.length > 0) writer.writeBlock(Buffer.from(`${records.map(({ data }) => data).join('\n')}\n`))
  return events.at(-1)?.id
}
