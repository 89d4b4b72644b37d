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
  /** Least recently acked first. */
  private readonly acked = new Map<string, ToldStream & { readonly atMs: number }>()
  private readonly clock: Clock
  private logEpoch: number | undefined

  constructor(clock: Clock) {
    this.clock = clock
  }

  settled({ identity, settled }: Stream): void {
    const { idHex: id, topic, keyPath: path } = identity
    this.acked.delete(id)
    this.acked.set(id, { id, topic, path, position: settled.position, atMs: this.clock.monotonicMs() })
    this.forget()
  }

  private forget(): void {
    const oldestMs = this.clock.monotonicMs() - KEPT_MS
    for (const [id, { atMs }] of this.acked) {
      if (this.acked.size <= STREAMS_MAX && atMs >= oldestMs) break
      this.acked.delete(id)
    }
  }

  /** What to tell, request by request: everything, when the collector's positions may have gone back; else nothing. */
  greeted(greeting: { readonly logEpoch: number; readonly streams: readonly { readonly id: string; readonly position: number }[] }): ToldStream[][] {
    const wasOther = this.logEpoch !== undefined && this.logEpoch !== greeting.logEpoch
    this.logEpoch = greeting.logEpoch
    this.forget()
    // Hello leaves out streams that are closed and superseded: those count only where another one shows that it went back.
    const isBehind = greeting.streams.some(({ id, position }) => position < (this.acked.get(id)?.position ?? 0))
    const known = new Set(greeting.streams.map(({ id }) => id))
    const isGone = [...this.acked.keys()].some((id) => !known.has(id))
    if (!wasOther && !isBehind && !isGone) return []
    const all = [...this.acked.values()].map(({ atMs: _, ...told }) => told)
    return Array.from({ length: Math.ceil(all.length / TOLD_PER_REQUEST) }, (_none, index) => all.slice(index * TOLD_PER_REQUEST, (index + 1) * TOLD_PER_REQUEST))
  }
}
