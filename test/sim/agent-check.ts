/**
 * What agents believe and send, held against what the collector said and against their own files:
 *
 * - I10: the position that an agent takes for stored was told for that very stream, by whatever answer.
 * - I16: where a life of an agent goes on in a stream, the bytes of its own host before that place have the tail hash.
 */
import { tailHash } from '../../shared/hashes.ts'
import { TAIL_BYTES_MAX, type SourceHeader } from '../../shared/source-header.ts'
import type { HostDisk } from './host-disk.ts'
import type { Ledger } from './ledger.ts'
import type { SimAgent } from './sim-agent.ts'
import type { Trace } from './trace.ts'

export function checkBeliefs({ agent, ledger, trace }: { agent: SimAgent; ledger: Ledger; trace: Trace }): void {
  for (const { id, position } of agent.beliefs()) {
    const heard = ledger.heard.get(id) ?? 0
    if (position > heard) trace.violation('I10', `${agent.name} takes ${position} bytes of stream ${id.slice(0, 8)} for stored, it was told of ${heard}`)
  }
}

/** The first batch of a stream that a life sends. */
export function checkBegin({ disk, source, trace }: { disk: HostDisk; source: SourceHeader; trace: Trace }): void {
  const { start } = source
  const isOwn = disk.incarnations.some(
    (each) => each.size >= start && tailHash(each.view().subarray(Math.max(0, start - TAIL_BYTES_MAX), start)).equals(source.tailHashStart),
  )
  if (start > 0 && !isOwn) {
    trace.violation('I16', `${disk.name} goes on with ${source.path} at ${start} of stream ${source.streamId.toString('hex').slice(0, 8)}, and none of its files has the bytes before`)
  }
}
