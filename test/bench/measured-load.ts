/**
 * A steady load and what it costs, the same for tailrace and its peers: a warm-up, a window in which costs and latencies
 * count, a wait until all has arrived, and single lines after idle.
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
const SINGLES = 6
/** By then the agent watches a folder again that was too busy to be watched (hot-directories.ts), and no linger runs. */
const IDLE_MS = 3500

export interface Arriving {
  readonly load: Load
  readonly counter: SequenceCounter
  readonly readable: Latencies
}

export interface MeasuredLoadOptions extends Arriving {
  readonly seconds: number
  readonly agentPid: number
  readonly receiverPid: number
  readonly acked?: Latencies
  /** Bytes that went over the wire so far. */
  readonly wireBytes: () => Promise<number>
}

export interface MeasuredLoad {
  readonly agent: Cost
  readonly receiver: Cost
  readonly lines: number
  readonly wireBytes: number
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
  return { agent, receiver, lines: end - first, wireBytes: wire }
}

/** Single lines, each after a rest: how long until they are readable. */
export async function measureSingles(options: MeasuredLoadOptions): Promise<Figures> {
  const name = 'single line after idle → readable'
  return measureEach(options, { name, count: SINGLES, restMs: IDLE_MS, write: (turn) => options.load.write(turn, 1) })
}

export interface EachOptions {
  readonly name: string
  readonly count: number
  readonly restMs: number
  /** Writes one line and gives its number. */
  readonly write: (turn: number) => number
}

export async function measureEach(options: Arriving, { name, count, restMs, write }: EachOptions): Promise<Figures> {
  const tookMs: number[] = []
  for (let turn = 0; turn < count; turn += 1) {
    await sleep(restMs)
    const sequence = write(turn)
    await arrival(options)
    tookMs.push(options.readable.took(sequence))
  }
  const sorted = tookMs.toSorted((a, b) => a - b)
  return { [`${name} p50 ms`]: percentile(sorted, 0.5), [`${name} max ms`]: percentile(sorted, 1) }
}

/** Waits until every line that was written has been seen. */
export async function arrival({ load, counter }: Arriving): Promise<void> {
  const end = performance.now() + ARRIVAL_MS_MAX
  while (counter.distinct < load.next && performance.now() < end) await sleep(2)
}

export function loadFigures(measured: MeasuredLoad, { seconds, readable, acked }: MeasuredLoadOptions): Figures {
  const { agent, receiver, lines } = measured
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
  }
}

/** When nothing more is written: what is not there now is lost. */
export function lossFigures({ load, counter }: Arriving): Figures {
  return { 'lines lost': load.next - counter.distinct, 'lines doubled': counter.doubled }
}
