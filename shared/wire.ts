/**
 * What agent, collector and CLI agree on over HTTP: paths, limits, the frames of `POST /v1/batches`, and the JSON
 * shapes. Both sides parse the other's JSON through the schemas here, at the edge, once.
 */
import * as v from 'valibot'
import { ByteReader, ByteWriter } from './bytes.ts'
import { AppError } from './errors.ts'

export const PROTOCOL_VERSION = 1
export const COLLECTOR_PORT = 4280
export const AGENT_ADMIN_PORT = 4281

export const paths = {
  hello: '/v1/hello',
  batches: '/v1/batches',
  lookup: '/v1/streams/lookup',
  close: '/v1/streams/close',
  streams: '/v1/streams',
  topics: '/v1/topics',
  fetch: '/v1/fetch',
  query: '/v1/query',
  tail: '/v1/tail',
  exports: '/v1/exports',
  /** Gives up what holds the export of a partition up. */
  skipExport: '/v1/exports/skip',
  status: '/v1/status',
  /** The wall clock stepped and somebody says that it is right now: retention by age goes on. */
  confirmClock: '/v1/clock/confirm',
  metrics: '/metrics',
  health: '/health',
  ready: '/ready',
} as const

export const contentTypes = {
  batches: 'application/vnd.tailrace.batches',
  records: 'application/vnd.tailrace.records',
  json: 'application/json',
  ndjson: 'application/x-ndjson',
  text: 'text/plain; charset=utf-8',
  events: 'text/event-stream',
} as const

/** Limits of the conversation. Every length from outside is held against one of these before memory is taken for it. */
export const wireLimits = {
  /** Body of one `POST /v1/batches`. */
  batchesRequestBytesMax: 16 * 1024 * 1024,
  /** Compressed size of one batch, so that any Kafka cluster takes it. */
  batchBytesMax: 900 * 1024,
  /** Records section of one batch, decompressed: what zstd-codec's fixed 16 MiB heap surely takes (4 MiB at level 9 does not). */
  batchContentBytesMax: 2 * 1024 * 1024,
  envelopeBytesMax: 16 * 1024,
  jsonRequestBytesMax: 1024 * 1024,
  /** Answers to an agent. */
  jsonResponseBytesMax: 4 * 1024 * 1024,
  streamsPerPage: 1000,
  framesPerRequest: 4096,
} as const

/** Response headers of `GET /v1/fetch`. */
export const fetchHeaders = {
  nextOffset: 'tailrace-next-offset',
  highWatermark: 'tailrace-high-watermark',
  logStartOffset: 'tailrace-log-start-offset',
  /** `from-to,…`: offsets that are gone or damaged and were skipped over; absent when there are none. */
  missing: 'tailrace-missing',
} as const

const topicPattern = /^[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,199}$/

export function isTopicName(name: string): boolean {
  return topicPattern.test(name)
}

/** Throws INVALID_TOPIC. */
export function checkTopicName(name: string): string {
  if (isTopicName(name)) return name
  throw new AppError('INVALID_TOPIC', `${JSON.stringify(name.slice(0, 220))} is not a topic name`, {
    hint: 'a topic name has 1 to 200 of a-z A-Z 0-9 . _ - and does not begin with a dot',
  })
}

/** The key of every record that came from a file. */
export function recordKey(host: string, path: string): string {
  return `${host}:${path}`
}

/** Host and path of a record key; a host holds no colon. */
export function splitRecordKey(key: string): { host: string; path: string } {
  const colon = key.indexOf(':')
  return colon < 0 ? { host: '', path: key } : { host: key.slice(0, colon), path: key.slice(colon + 1) }
}

// Frames of POST /v1/batches:
//
// | bytes | field |
// |---|---|
// | 4 | length of what follows |
// | 2 | envelope length |
// | n | envelope: u8 version = 1, topic (u16 length + UTF-8), the batch's `tr` header byte for byte |
// | … | sealed batch |

const ENVELOPE_VERSION = 1

export interface Envelope {
  readonly topic: string
  /** The encoded source header: what the batch carries inside, for whoever does not want to decompress. */
  readonly sourceHeader: Buffer
}

export interface BatchFrame {
  readonly envelope: Buffer
  readonly batch: Buffer
}

export function encodeEnvelope(envelope: Envelope): Buffer {
  const writer = new ByteWriter(3 + Buffer.byteLength(envelope.topic) + envelope.sourceHeader.length)
  return writer.u8(ENVELOPE_VERSION).string16(envelope.topic).bytes(envelope.sourceHeader).buffer
}

/** Throws BAD_FRAME or UNSUPPORTED_VERSION. The source header is a view. */
export function decodeEnvelope(bytes: Buffer): Envelope {
  const reader = new ByteReader(bytes)
  try {
    const version = reader.u8()
    if (version !== ENVELOPE_VERSION) throw new AppError('UNSUPPORTED_VERSION', `envelope version ${version}`)
    return { topic: reader.string16(), sourceHeader: reader.bytes(reader.remaining) }
  } catch (error) {
    if (error instanceof AppError && error.code === 'UNSUPPORTED_VERSION') throw error
    throw new AppError('BAD_FRAME', 'envelope is cut short', { cause: error })
  }
}

/** The buffers of one frame, to be sent one after another: nothing is copied. */
export function encodeFrame(frame: BatchFrame): Buffer[] {
  const prefix = Buffer.allocUnsafe(6)
  prefix.writeUInt32BE(2 + frame.envelope.length + frame.batch.length, 0)
  prefix.writeUInt16BE(frame.envelope.length, 4)
  return [prefix, frame.envelope, frame.batch]
}

/** All frames of a request body, as views. Throws BAD_FRAME when the framing itself is broken. */
export function decodeFrames(body: Buffer): BatchFrame[] {
  const frames: BatchFrame[] = []
  for (let at = 0; at < body.length; ) {
    if (body.length - at < 6) throw badFrame(frames.length, `${body.length - at} bytes are too few for a frame`)
    const length = body.readUInt32BE(at)
    const envelopeLength = body.readUInt16BE(at + 4)
    const end = at + 4 + length
    if (end > body.length) throw badFrame(frames.length, `frame of ${length} bytes runs over the end of the body`)
    if (envelopeLength > wireLimits.envelopeBytesMax) throw badFrame(frames.length, `envelope of ${envelopeLength} bytes`)
    if (2 + envelopeLength > length) throw badFrame(frames.length, `envelope of ${envelopeLength} bytes in a frame of ${length}`)
    if (frames.length === wireLimits.framesPerRequest) throw badFrame(frames.length, 'too many frames')
    frames.push({ envelope: body.subarray(at + 6, at + 6 + envelopeLength), batch: body.subarray(at + 6 + envelopeLength, end) })
    at = end
  }
  return frames
}

function badFrame(index: number, message: string): AppError {
  return new AppError('BAD_FRAME', `frame ${index}: ${message}`)
}

// JSON. Hashes and ids are lower-case hex, 64-bit numbers that may be over 2^53 (inode, birth time) decimal strings.

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const hex16 = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))
const decimal = v.pipe(v.string(), v.regex(/^[0-9]{1,20}$/))
const name = v.pipe(v.string(), v.minLength(1), v.maxLength(4096))

/** One stream as the collector knows it. `position`, `tailHash` and `records` are synced: they survive a power cut. */
export const streamSchema = v.object({
  id: hex16,
  agentId: name,
  host: name,
  /** Path of the newest batch. */
  path: name,
  /** Path in the record key: the one the stream began with. */
  keyPath: name,
  topic: name,
  partition: count,
  inode: decimal,
  birthtimeNs: decimal,
  headLength: count,
  headHash: hex16,
  generation: count,
  supersedes: v.nullable(count),
  /** A later generation said that it supersedes this one: this one is never resumed by the same inode. */
  superseded: v.boolean(),
  position: count,
  tailHash: hex16,
  records: count,
  /** Offsets of its first and last record. */
  firstOffset: count,
  lastOffset: count,
  lastAppendMs: count,
  /** Whether its last record is an unterminated line. */
  endsWithEof: v.boolean(),
  open: v.boolean(),
})
export type StreamInfo = v.InferOutput<typeof streamSchema>

export const helloRequestSchema = v.object({
  protocol: v.literal(PROTOCOL_VERSION),
  agentId: name,
  host: name,
  /** Random per process: two live ones for one agent id mean a clone. */
  session: v.pipe(v.string(), v.regex(/^[0-9a-f]{16,64}$/)),
  /** Continues after the stream with this id; absent on the first page. */
  after: v.optional(hex16),
})

/**
 * Random per collector process: one that differs from hello's means that the collector was started again since, perhaps
 * on another copy of its folder. Older collectors do not tell.
 */
const instance = v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)))

export const helloResponseSchema = v.object({
  protocol: v.literal(PROTOCOL_VERSION),
  clusterId: name,
  logEpoch: count,
  instance,
  limits: v.object({ batchBytesMax: count, batchContentBytesMax: count, requestBytesMax: count }),
  /** Newest generation of each file of this agent, and superseded ones that are still open. */
  streams: v.array(streamSchema),
  /** Ask again with `after: next`; null on the last page. */
  next: v.nullable(hex16),
})
export type HelloResponse = v.InferOutput<typeof helloResponseSchema>

export const lookupRequestSchema = v.object({
  agentId: name,
  files: v.pipe(
    v.array(
      v.object({
        topic: name,
        inode: decimal,
        birthtimeNs: decimal,
        /** First ≤ 1 KiB of the file, base64. */
        head: v.pipe(v.string(), v.maxLength(1368)),
      }),
    ),
    v.maxLength(256),
  ),
})
export type LookupRequest = v.InferOutput<typeof lookupRequestSchema>

/** Per file asked for: every stream of this agent, open or closed, with the same inode and birth time or a matching head. */
export const lookupResponseSchema = v.object({ files: v.array(v.object({ streams: v.array(streamSchema) })) })
export type LookupResponse = v.InferOutput<typeof lookupResponseSchema>

export const closeRequestSchema = v.object({
  agentId: name,
  streams: v.pipe(v.array(v.object({ id: hex16, position: count })), v.maxLength(1000)),
})
export type CloseRequest = v.InferOutput<typeof closeRequestSchema>
/** Ids that are closed now; one whose position is not the asked one stays open. */
export const closeResponseSchema = v.object({ closed: v.array(hex16) })
export type CloseResponse = v.InferOutput<typeof closeResponseSchema>

const echo = { stream: hex16, start: count, end: count, crc: count }

export const frameErrorSchema = v.object({
  status: v.literal('error'),
  code: v.string(),
  message: v.string(),
  hint: v.optional(v.string()),
  retryable: v.boolean(),
})

/** Answer to one frame, in the order of the frames. Every position in it is synced. */
export const frameResultSchema = v.variant('status', [
  v.object({ status: v.literal('ok'), ...echo, partition: count, offset: count }),
  v.object({ status: v.literal('have'), ...echo, position: count, tailHash: hex16 }),
  v.object({ status: v.literal('expected'), ...echo, position: count, tailHash: hex16 }),
  v.object({ status: v.literal('diverged'), ...echo, position: count, tailHash: hex16 }),
  frameErrorSchema,
])
export type FrameResult = v.InferOutput<typeof frameResultSchema>

export const batchesResponseSchema = v.object({ logEpoch: count, instance, frames: v.array(frameResultSchema) })
export type BatchesResponse = v.InferOutput<typeof batchesResponseSchema>

export const errorBodySchema = v.object({
  error: v.object({ code: v.string(), message: v.string(), hint: v.optional(v.string()), retryable: v.optional(v.boolean()) }),
})

// Reading.

export const topicSchema = v.object({
  name,
  config: v.object({
    partitions: count,
    segmentBytes: count,
    segmentAgeMs: count,
    /** null = unlimited. */
    retentionBytes: v.nullable(count),
    retentionAgeMs: v.nullable(count),
  }),
  partitions: v.array(
    v.object({
      partition: count,
      /** First offset that can be read, here or back from the export. */
      logStartOffset: count,
      /** First offset on the collector's own disk. */
      localLogStartOffset: count,
      highWatermark: count,
      logEndOffset: count,
      segments: count,
      sizeBytes: count,
      /** Wall clock of the first and last append that is still there, null when empty. */
      firstAppendMs: v.nullable(count),
      lastAppendMs: v.nullable(count),
      state: v.picklist(['ok', 'failed', 'damaged']),
    }),
  ),
})
export type TopicInfo = v.InferOutput<typeof topicSchema>

/** One line of `GET /v1/query` and the data of one event of `GET /v1/tail`. */
export const queryRecordSchema = v.object({
  topic: name,
  partition: count,
  offset: count,
  /** ms since 1970: when the agent read the line. */
  ts: v.number(),
  host: v.string(),
  path: v.string(),
  /** UTF-8, with replacement characters where the line is not; then `b64` holds its bytes. */
  line: v.string(),
  b64: v.optional(v.string()),
  mark: v.optional(v.picklist(['part', 'eof'])),
  /** Static labels of the agent's input. */
  labels: v.optional(v.record(v.string(), v.string())),
  /** A neighbour of a match, asked for by before/after. */
  context: v.optional(v.literal(true)),
})
export type QueryRecord = v.InferOutput<typeof queryRecordSchema>

/** Last line of `GET /v1/query`: without it the answer was cut off. */
export const queryEndSchema = v.object({
  end: v.object({
    matched: count,
    /** The limit ended the query, not the data. */
    truncated: v.boolean(),
    /** What could not be read; not empty = exit code 3. */
    missing: v.array(v.object({ topic: name, partition: count, fromOffset: count, toOffset: count, reason: v.string() })),
    batches: count,
    batchesRead: count,
    bytesRead: count,
    contentBytes: count,
    ms: v.number(),
    /** `topic:partition@offset,…`: where the next query would begin. */
    cursor: v.string(),
  }),
})
export type QueryEnd = v.InferOutput<typeof queryEndSchema>

/** Warehouse tables of a partition. */
const tablesSchema = v.object({
  format: v.picklist(['jsonl', 'parquet']),
  /** All records below are in the tables; some behind it may be too. */
  publishedOffset: count,
  /** End of the last hour that is complete for this partition, ms; null until it is known. */
  completeUntilMs: v.nullable(count),
  state: v.picklist(['idle', 'publishing', 'waiting', 'parked']),
  reason: v.nullable(v.string()),
})

/** What `?check=length` or `?check=deep` found in the store; absent when not asked for. */
const exportCheck = v.picklist(['ok', 'missing', 'length', 'checksum'])

export const exportSchema = v.object({
  topic: name,
  partition: count,
  exportedOffset: count,
  logEndOffset: count,
  lagSegments: count,
  lagBytes: count,
  /** Age of the oldest sealed segment that is not exported yet. */
  /** Since the oldest sealed segment that waits was sealed. */
  lagMs: count,
  /** Age of the oldest record that is not exported, also while its segment is being written; 0 = all is exported. */
  oldestUnexportedMs: count,
  state: v.picklist(['idle', 'exporting', 'waiting', 'parked', 'gap']),
  reason: v.nullable(v.string()),
  /** Absent where no tables are made. */
  tables: v.optional(tablesSchema),
  segments: v.array(
    v.object({ baseOffset: count, nextOffset: count, state: v.string(), sizeBytes: count, sha256: v.nullable(v.string()), name: v.nullable(v.string()), check: v.optional(exportCheck) }),
  ),
})
export type ExportInfo = v.InferOutput<typeof exportSchema>

/** `GET /v1/topics`. */
export const topicsResponseSchema = v.object({ topics: v.array(topicSchema) })
export type TopicsResponse = v.InferOutput<typeof topicsResponseSchema>

/**
 * `GET /v1/streams?host=&path=&topic=&agent=&id=&after=`, in order of stream id, at most `streamsPerPage` a page.
 * Filters are literal; `path` matches the path now and the path in the key. Ask again with `after=next`.
 */
export const streamsResponseSchema = v.object({ streams: v.array(streamSchema), next: v.nullable(hex16) })
export type StreamsResponse = v.InferOutput<typeof streamsResponseSchema>

/**
 * `GET /v1/streams/<id>/hashes?from=<position>&offset=<offset>`: the ranges behind `from` that the log on the
 * collector's disk still holds, in file order.
 */
export const streamHashesResponseSchema = v.object({
  /** The question, so that an answer to another one is not taken for this one's. */
  stream: hex16,
  from: count,
  ranges: v.array(v.object({ start: count, end: count, sourceHash: hex16 })),
  /** Ask again with `offset=next`, also where a page has no range; null on the last page. */
  next: v.nullable(count),
  /** Where the log begins to hold this stream, when that is behind `from`; null when it is not, and on later pages. */
  reachesBackTo: v.nullable(count),
})
export type StreamHashesResponse = v.InferOutput<typeof streamHashesResponseSchema>

export const confirmClockResponseSchema = v.object({ confirmed: v.literal(true) })

/** `GET /v1/exports`; empty when no export is configured. */
export const exportsResponseSchema = v.object({ exports: v.array(exportSchema) })
export type ExportsResponse = v.InferOutput<typeof exportsResponseSchema>

/** `POST /v1/exports/skip`. Without the range it only tells what could be given up. */
export const skipExportSchema = v.strictObject({ topic: name, partition: count, range: v.optional(v.strictObject({ fromOffset: count, toOffset: count })) })
/** null: nothing holds this partition up. */
export const skipExportResponseSchema = v.object({ range: v.nullable(v.object({ fromOffset: count, toOffset: count })), isSkipped: v.boolean() })
export type SkipExportResponse = v.InferOutput<typeof skipExportResponseSchema>

const positive = v.pipe(v.number(), v.safeInteger(), v.minValue(1))

/** What `POST` and `PATCH` may set; null = unlimited, absent = default or as it is. */
export const topicConfigSchema = v.strictObject({
  partitions: v.optional(v.pipe(positive, v.maxValue(1024))),
  segmentBytes: v.optional(v.pipe(positive, v.minValue(64 * 1024), v.maxValue(1024 * 1024 * 1024))),
  segmentAgeMs: v.optional(v.pipe(positive, v.minValue(1000))),
  retentionBytes: v.optional(v.nullable(positive)),
  retentionAgeMs: v.optional(v.nullable(positive)),
})
export type TopicConfigRequest = v.InferOutput<typeof topicConfigSchema>
export const createTopicSchema = v.strictObject({ name, config: v.optional(topicConfigSchema) })
export const alterTopicSchema = v.strictObject({ config: topicConfigSchema })

/** Answer to `POST /v1/topics/<topic>/lines`. `repeated`: the Idempotency-Key was known, nothing new was stored. */
export const linesResponseSchema = v.object({
  topic: name,
  partition: count,
  baseOffset: count,
  lastOffset: count,
  records: count,
  repeated: v.optional(v.literal(true)),
})
export type LinesResponse = v.InferOutput<typeof linesResponseSchema>

export const statusSchema = v.object({
  version: v.string(),
  clusterId: name,
  logEpoch: count,
  startedMs: count,
  nowMs: count,
  ready: v.boolean(),
  topics: count,
  streams: count,
  freeBytes: count,
  exportTo: v.nullable(v.string()),
  alarms: v.array(
    v.object({
      code: v.string(),
      message: v.string(),
      sinceMs: count,
      /** What an alarm about damage is about: [fromOffset, toOffset) of a partition. */
      range: v.optional(v.object({ topic: name, partition: count, fromOffset: count, toOffset: count })),
    }),
  ),
  agents: v.array(
    v.object({ agentId: name, host: name, lastSeenMs: count, sessions: count, openStreams: count }),
  ),
})
export type CollectorStatus = v.InferOutput<typeof statusSchema>

/** Parses JSON from outside by a schema. Throws BAD_REQUEST that names the first field that is wrong. */
export function parseJson<S extends v.GenericSchema>(schema: S, text: string, what: string): v.InferOutput<S> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new AppError('BAD_REQUEST', `${what} is not JSON`, { cause: error })
  }
  const result = v.safeParse(schema, value)
  if (result.success) return result.output
  const issue = result.issues[0]
  throw new AppError('BAD_REQUEST', `${what}: ${v.getDotPath(issue) ?? 'value'}: ${issue.message}`)
}
