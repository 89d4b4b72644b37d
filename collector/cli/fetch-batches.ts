/**
 * Raw batches of one partition from `GET /v1/fetch`, page after page up to a pinned end. The next page is asked for
 * while the caller works on this one; at most two pages are held.
 */
import { AppError } from '../../shared/errors.ts'
import { BATCH_HEADER_BYTES, peekBatchSize, readBatchHeader, type BatchHeader } from '../../shared/record-batch.ts'
import { fetchHeaders, paths } from '../../shared/wire.ts'
import { readBounded, type CollectorClient } from './collector-client.ts'

const PAGE_BYTES = 4 * 1024 * 1024
/** A page holds at least one whole batch, even a larger one that came from a real Kafka cluster. */
const PAGE_BYTES_MAX = 64 * 1024 * 1024

export interface FetchRange {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** Never a batch that begins at or behind this. */
  readonly endOffset: number
  /** Only this stream's batches. */
  readonly streamId?: string
}

export interface FetchedPage {
  readonly fromOffset: number
  readonly nextOffset: number
  /** Whole batches back to back. */
  readonly batches: Buffer
  readonly logStartOffset: number
}

type Outcome = { readonly page: FetchedPage } | { readonly error: unknown }

export async function* fetchPages(client: CollectorClient, range: FetchRange): AsyncGenerator<FetchedPage> {
  const abort = new AbortController()
  const ask = (offset: number): Promise<Outcome> =>
    fetchPage(client, { ...range, offset }, abort.signal).then(
      (page) => ({ page }),
      (error: unknown) => ({ error }),
    )
  try {
    for (let next = range.offset < range.endOffset ? ask(range.offset) : undefined; next !== undefined; ) {
      const outcome = await next
      if ('error' in outcome) throw outcome.error
      const { page } = outcome
      const isLast = page.nextOffset >= range.endOffset || page.nextOffset <= page.fromOffset
      next = isLast ? undefined : ask(page.nextOffset)
      yield page
    }
  } finally {
    abort.abort()
  }
}

async function fetchPage(client: CollectorClient, range: FetchRange, signal: AbortSignal): Promise<FetchedPage> {
  const response = await client.open(paths.fetch, {
    query: {
      topic: range.topic, partition: range.partition, offset: range.offset, endOffset: range.endOffset,
      maxBytes: PAGE_BYTES, stream: range.streamId,
    },
    signal: AbortSignal.any([signal, client.signal]),
  })
  const number = (name: string): number => {
    const text = response.headers.get(name)
    if (text === undefined || !/^[0-9]{1,16}$/.test(text)) throw new AppError('REMOTE_ERROR', `answer to ${paths.fetch} has no ${name}`)
    return Number(text)
  }
  const batches = await readBounded(response.body, PAGE_BYTES_MAX)
  return {
    fromOffset: range.offset,
    nextOffset: number(fetchHeaders.nextOffset),
    logStartOffset: number(fetchHeaders.logStartOffset),
    batches,
  }
}

export interface RawBatch {
  readonly header: BatchHeader
  /** A view into the page. */
  readonly bytes: Buffer
}

/** Throws CORRUPT_MESSAGE when the page is not batches back to back. */
export function* batchesIn(page: Buffer): Generator<RawBatch> {
  for (let at = 0; at < page.length; ) {
    const size = peekBatchSize(page, at)
    if (size === undefined || size < BATCH_HEADER_BYTES || at + size > page.length) {
      throw new AppError('CORRUPT_MESSAGE', `batch at byte ${at} of the answer does not fit it`)
    }
    yield { header: readBatchHeader(page, at), bytes: page.subarray(at, at + size) }
    at += size
  }
}
