/**
 * `POST /v1/topics/<topic>/lines`: plain lines or NDJSON from scripts, curl and web tracking. One request is one batch:
 * it is stored whole, synced, before the answer gives its offsets, or not at all. Records have no key and no source.
 */
import { AppError } from '../../shared/errors.ts'
import { partitionOf, sha256Prefix } from '../../shared/hashes.ts'
import { jsonResponse, readBody } from '../../shared/http-body.ts'
import type { ServerRequest, ServerResponse } from '../../shared/http-handler.ts'
import { sealPlainBatch, type IdempotencyMark } from '../../shared/plain-batch.ts'
import type { Counter, System } from '../../shared/system.ts'
import { checkTopicName, paths, wireLimits, type LinesResponse } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import type { TopicDescription, TopicLog } from '../storage/topic-log.ts'
import type { IdempotencyWindow, StoredLines } from './idempotency.ts'
import { LINES_BYTES_MAX, readLines } from './line-body.ts'
import type { MemoryBudget } from './memory-budget.ts'
import { param, type Route, type RouteContext } from './router.ts'
import type { TopicGate } from './topic-gate.ts'

export interface LinesDependencies {
  readonly system: Pick<System, 'clock' | 'random' | 'metrics'>
  readonly log: TopicLog
  readonly zstd: Zstd
  readonly budget: MemoryBudget
  readonly gate: TopicGate
  readonly window: IdempotencyWindow
}

const ZSTD_LEVEL = 3
/** Body, its decompressed form and the records: what one request holds at most. */
const HELD_BYTES = 4 * LINES_BYTES_MAX
const keyPattern = /^[\x21-\x7e]{1,200}$/

export function createLinesRoutes(dependencies: LinesDependencies): readonly Route[] {
  const stored = dependencies.system.metrics.counter('tailrace_collector_lines_stored_total', 'Records stored from POST /lines')
  return [
    {
      method: 'POST',
      pattern: `${paths.topics}/:topic/lines`,
      role: 'ingest',
      handler: (request, context) => receiveLines(request, context, { ...dependencies, stored }),
    },
  ]
}

type Receiver = LinesDependencies & { readonly stored: Counter }

async function receiveLines(request: ServerRequest, context: RouteContext, receiver: Receiver): Promise<ServerResponse> {
  const name = checkTopicName(param(context, 'topic'))
  const key = idempotencyKeyOf(request)
  receiver.gate.checkOpen()
  const giveBack = receiver.budget.take(HELD_BYTES)
  try {
    const lines = await readLines(await readBody(request, LINES_BYTES_MAX), request.headers, receiver.zstd)
    if (lines.length === 0) throw new AppError('BAD_REQUEST', 'there is no line in the body')
    const topic = await receiver.gate.openTopic(name)
    const mark = key === undefined ? undefined : { key, contentHash: hashOf(lines) }
    const { stored, isRepeat } = await storeOnce({ topic, lines, mark }, receiver)
    if (!isRepeat) receiver.stored.add(stored.records)
    return jsonResponse({
      topic: name,
      partition: stored.partition,
      baseOffset: stored.baseOffset,
      lastOffset: stored.baseOffset + stored.records - 1,
      records: stored.records,
      ...(isRepeat ? { repeated: true } : {}),
    } satisfies LinesResponse)
  } finally {
    giveBack()
  }
}

function idempotencyKeyOf(request: ServerRequest): string | undefined {
  const key = request.headers.get('idempotency-key')
  if (key === undefined || keyPattern.test(key)) return key
  throw new AppError('BAD_REQUEST', 'an Idempotency-Key has 1 to 200 visible ASCII characters')
}

/** Over lengths and bytes, so that lines can't be shifted into each other. */
function hashOf(lines: readonly Buffer[]): Buffer {
  const lengths = Buffer.alloc(4 * lines.length)
  for (const [index, line] of lines.entries()) lengths.writeUInt32BE(line.length, 4 * index)
  return sha256Prefix(lengths, ...lines)
}

interface Lines {
  readonly topic: TopicDescription
  readonly lines: readonly Buffer[]
  readonly mark: IdempotencyMark | undefined
}

async function storeOnce(wanted: Lines, receiver: Receiver): Promise<{ stored: StoredLines; isRepeat: boolean }> {
  if (wanted.mark === undefined) return { stored: await store(wanted, receiver), isRepeat: false }
  return receiver.window.once(wanted.topic.name, wanted.mark, () => store(wanted, receiver))
}

async function store({ topic, lines, mark }: Lines, { system, log, zstd }: Receiver): Promise<StoredLines> {
  const batch = await sealPlainBatch({
    lines,
    timestampMs: system.clock.nowMs(),
    ...(mark === undefined ? {} : { mark }),
    zstd,
    level: ZSTD_LEVEL,
    contentBytesMax: wireLimits.batchContentBytesMax,
  })
  if (batch.length > wireLimits.batchBytesMax) {
    throw new AppError('MESSAGE_TOO_LARGE', `the lines take ${batch.length} bytes compressed, over ${wireLimits.batchBytesMax}`, {
      hint: 'send them in several requests',
    })
  }
  const count = topic.config.partitions
  const partition = mark === undefined ? Math.floor(system.random.next() * count) : partitionOf(Buffer.from(mark.key), count)
  const { baseOffset } = await log.appendPlain({ topic: topic.name, partition, batch })
  return { partition, baseOffset, records: lines.length }
}
