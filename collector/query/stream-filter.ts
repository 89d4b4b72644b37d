/**
 * Which producers a path filter lets through, from the table of streams: a batch of another stream is then skipped by its
 * header, without decompressing anything. The key's path is fixed when a stream begins; its host is not looked at here,
 * because the table knows only the newest one.
 */
import { producerOf } from '../../shared/record-batch.ts'
import type { ReadableStreams } from '../storage/topic-log.ts'
import { compileGlobs } from './glob.ts'
import type { SourceSpec } from './query-spec.ts'

/** Whether batches of this producer may hold admitted records. */
export type ProducerFilter = (producerId: bigint) => boolean

/** A snapshot of the table; a producer that it does not know may hold anything. */
export function createProducerFilter(streams: ReadableStreams, source: SourceSpec): ProducerFilter {
  if (source.paths.length === 0) return () => true
  const matchesPath = compileGlobs(source.paths, { lastComponent: true })
  const wanted = new Set<bigint>()
  const unwanted = new Set<bigint>()
  for (const { source: { streamId }, keyPath } of streams.list()) {
    const { producerId } = producerOf(streamId, 0)
    ;(matchesPath(keyPath) ? wanted : unwanted).add(producerId)
  }
  // 61 bits may meet by chance: a producer on both lists is looked at.
  return (producerId) => wanted.has(producerId) || !unwanted.has(producerId)
}
