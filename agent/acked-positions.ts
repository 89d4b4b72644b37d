/**
 * How far the collector said it was, by stream, for as long as this process lives. Nothing is decided by it: where a
 * collector comes back with less (an older copy of its folder) and the file is gone, nobody else can say what is
 * missing. In memory, bounded: the streams that were acked last are kept.
 */
import type { Clock } from '../shared/system.ts'
import { TOLD_PER_REQUEST, type ToldStream } from '../shared/wire-missing.ts'
import type { Stream } from './stream.ts'

const STREAMS_MAX = 10_000
/** Shorter than a collector keeps positions of closed streams: what it has forgotten on purpose is not missing. */
const KEPT_MS = 20 * 86_400_000

export class AckedPositions {
  /** Least recently acked first. The streams themselves: most of them are there anyway, and there may be ten thousand. */
  private readonly acked = new Map<string, Stream>()
  private readonly clock: Clock
  private logEpoch: number | undefined

  constructor(clock: Clock) {
    this.clock = clock
  }

  settled(stream: Stream): void {
    const { idHex } = stream.identity
    stream.ackedAtMs = this.clock.monotonicMs()
    this.acked.delete(idHex)
    this.acked.set(idHex, stream)
    this.forget()
  }

  private forget(): void {
    const oldestMs = this.clock.monotonicMs() - KEPT_MS
    for (const [id, { ackedAtMs }] of this.acked) {
      if (this.acked.size <= STREAMS_MAX && ackedAtMs >= oldestMs) break
      this.acked.delete(id)
    }
  }

  /** What to tell, request by request: everything, when the collector's positions may have gone back; else nothing. */
  greeted(greeting: { readonly logEpoch: number; readonly streams: readonly { readonly id: string; readonly position: number }[] }): ToldStream[][] {
    const wasOther = this.logEpoch !== undefined && this.logEpoch !== greeting.logEpoch
    this.logEpoch = greeting.logEpoch
    this.forget()
    // Hello leaves out streams that are closed and superseded: those count only where another one shows that it went back.
    const isBehind = greeting.streams.some(({ id, position }) => position < (this.acked.get(id)?.settled.position ?? 0))
    const known = new Set(greeting.streams.map(({ id }) => id))
    const isGone = [...this.acked.keys()].some((id) => !known.has(id))
    if (!wasOther && !isBehind && !isGone) return []
    const all = [...this.acked.values()].map(told)
    return Array.from({ length: Math.ceil(all.length / TOLD_PER_REQUEST) }, (_none, index) => all.slice(index * TOLD_PER_REQUEST, (index + 1) * TOLD_PER_REQUEST))
  }
}

function told({ identity, settled }: Stream): ToldStream {
  return { id: identity.idHex, topic: identity.topic, path: identity.keyPath, position: settled.position }
}
