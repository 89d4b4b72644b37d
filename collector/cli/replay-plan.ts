/** What a replay would do, found out before it does it. */
import type { QueryEnd, QueryRecord } from '../../shared/wire.ts'
import type { CollectorClient, QueryValues } from './collector-client.ts'
import { humanBytes, humanCount, humanDuration, humanTime, type TimeZone } from './human.ts'
import { formatCursor, type OffsetVector } from './offset-vector.ts'
import { QueryStream, recordsIn, valueOf } from './query-stream.ts'
import { ReplayPace, type PaceOptions } from './replay-pace.ts'
import type { ReplaySource } from './replay-source.ts'

export interface ReplayPlan {
  readonly records: number
  /** Bytes of the lines; undefined where they were not counted. */
  readonly bytes: number | undefined
  readonly firstMs: number | undefined
  readonly lastMs: number | undefined
  /** undefined without pacing. */
  readonly wallMs: number | undefined
  readonly hosts: ReadonlySet<string> | undefined
}

const HOSTS_MAX = 1000

/** Exact: reads every record that the replay would send. */
export async function planByReading(source: ReplaySource, options: PaceOptions, onProgress: (records: number) => Promise<void>): Promise<ReplayPlan> {
  const pace = new ReplayPace(options)
  const hosts = new Set<string>()
  let [records, bytes, wallMs] = [0, 0, 0]
  let firstMs: number | undefined
  let lastMs: number | undefined
  for await (const record of source.records()) {
    records += 1
    bytes += valueOf(record).length + 1
    wallMs = pace.dueMs(record.ts)
    firstMs = Math.min(firstMs ?? record.ts, record.ts)
    lastMs = Math.max(lastMs ?? record.ts, record.ts)
    if (hosts.size < HOSTS_MAX) hosts.add(record.host)
    if (records % 4096 === 0) await onProgress(records)
  }
  return { records, bytes, firstMs, lastMs, wallMs: options.speed === undefined ? undefined : wallMs, hosts }
}

/** Quick: the count, the first and the last record. The wall time is a bound where gaps are capped. */
export async function planByAsking(client: CollectorClient, values: QueryValues, facts: { next: OffsetVector; pace: PaceOptions }): Promise<ReplayPlan> {
  const from = formatCursor(facts.next)
  const count = await ask(client, { ...values, from, count: true })
  const first = await ask(client, { ...values, from, limit: 1 })
  const last = await ask(client, { ...values, from, limit: 1, reverse: true })
  const { speed } = facts.pace
  const [firstMs, lastMs] = [first.record?.ts, last.record?.ts]
  const wallMs = speed === undefined || firstMs === undefined || lastMs === undefined ? undefined : Math.max(0, lastMs - firstMs) / speed
  return { records: count.end?.matched ?? 0, bytes: undefined, firstMs, lastMs, wallMs, hosts: undefined }
}

async function ask(client: CollectorClient, values: QueryValues): Promise<{ record: QueryRecord | undefined; end: QueryEnd['end'] | undefined }> {
  const stream = new QueryStream(client, values)
  let record: QueryRecord | undefined
  for await (const block of stream.blocks()) for (const found of recordsIn(block)) record ??= found
  return { record, end: stream.end }
}

export interface PlanText {
  readonly topics: readonly string[]
  readonly sink: string
  readonly pace: PaceOptions
  readonly zone: TimeZone
}

export function planLines(plan: ReplayPlan, { topics, sink, pace, zone }: PlanText): string[] {
  const bytes = plan.bytes === undefined ? '' : `, ${humanBytes(plan.bytes)}`
  const lines = [`replay of ${topics.join(', ')} to ${sink}: ${humanCount(plan.records)} records${bytes}`]
  if (plan.firstMs !== undefined && plan.lastMs !== undefined) {
    lines.push(`from ${humanTime(plan.firstMs, zone)} to ${humanTime(plan.lastMs, zone)}`)
  }
  if (plan.hosts !== undefined && plan.hosts.size > 0) lines.push(`hosts: ${[...plan.hosts].sort().slice(0, 20).join(', ')}${plan.hosts.size > 20 ? ', …' : ''}`)
  if (pace.speed === undefined) lines.push('as fast as the sink takes it')
  else {
    const capped = pace.maxGapMs === undefined ? '' : `, gaps capped at ${humanDuration(pace.maxGapMs)}`
    const bound = plan.bytes === undefined && pace.maxGapMs !== undefined ? 'at most' : 'about'
    lines.push(`at ${pace.speed} times the original pace${capped}: ${bound} ${humanDuration(plan.wallMs ?? 0)}`)
  }
  return lines
}
