/**
 * A steady load and what it costs, the same for tailrace and its peers: a warm-up, a window in which costs and latencies
 * count, single lines after idle, and a wait until all has arrived.
 */
import type { Latencies } from './latencies.ts'
import type { Load } from './load.ts'
import { costOf, since, type Cost } from './process-cost.ts'
import { sleep } from './programs.ts'
import type { SequenceCounter } from './sequence-counter.ts'
import { percentile } from './statistics.ts'
import type { Figures } from './workload.ts'

const WARM_UP_MS = 3000
/** All lines must have arrived this long after the last one was written. */
const ARRIVAL_MS_MAX = 30_000
const SINGLES = 10
/** The linger of an agent has run out by then. */
const IDLE_MS = 1000

export interface MeasuredLoadOptions {
  readonly load: Load
  readonly seconds: number
  readonly agentPid: number
  readonly receiverPid: number
  readonly counter: SequenceCounter
  readonly readable: Latencies
  readonly acked?: Latencies
  /** Bytes that went over the wire so far. */
  readonly wireBytes: () => Promise<number>
}

export interface MeasuredLoad {
  readonly agent: Cost
  readonly receiver: Cost
  readonly lines: number
  readonly wireBytes: number
  readonly singlesMs: readonly number[]
}

export async function measureLoad(options: MeasuredLoadOptions): Promise<MeasuredLoad> {
  const { load, agentPid, receiverPid } = options
  const running = load.run()
  await sleep(WARM_UP_MS)
  const before = { agent: await costOf(agentPid), receiver: await costOf(receiverPid), wire: await options.wireBytes() }
  const first = load.next
  await sleep(options.seconds * 1000)
  const agent = since(before.agent, await costOf(agentPid))
  const receiver = since(before.receiver, await costOf(receiverPid))
  const wire = (await options.wireBytes()) - before.wire
  const end = load.next
  options.readable.window(first, end)
  options.acked?.window(first, end)
  load.stop()
  await running
  await arrival(options)
  const singlesMs: number[] = []
  for (let turn = 0; turn < SINGLES; turn += 1) {
    await sleep(IDLE_MS)
    const sequence = load.write(turn, 1)
    await arrival(options)
    singlesMs.push(options.readable.took(sequence))
  }
  return { agent, receiver, lines: end - first, wireBytes: wire, singlesMs }
}

async function arrival({ load, counter }: MeasuredLoadOptions): Promise<void> {
  const end = performance.now() + ARRIVAL_MS_MAX
  while (counter.distinct < load.next && performance.now() < end) await sleep(2)
}

export function loadFigures(measured: MeasuredLoad, { seconds, counter, load, readable, acked }: MeasuredLoadOptions): Figures {
  const { agent, receiver, lines } = measured
  const singles = measured.singlesMs.toSorted((a, b) => a - b)
  return {
    'lines/s': lines / seconds,
    'agent cores': agent.cpuSeconds / seconds,
    'agent CPU-s per million lines': agent.cpuSeconds / (lines / 1e6),
    'receiver cores': receiver.cpuSeconds / seconds,
    'agent peak RSS MiB': agent.peakRssMiB,
    'receiver peak RSS MiB': receiver.peakRssMiB,
    'bytes on the wire per line': measured.wireBytes / lines,
    ...acked?.figures('write → ack'),
    ...readable.figures('write → readable'),
    'single line after idle → readable p50 ms': percentile(singles, 0.5),
    'single line after idle → readable max ms': percentile(singles, 1),
    'lines lost': load.next - counter.distinct,
    'lines doubled': counter.doubled,
  }
}
