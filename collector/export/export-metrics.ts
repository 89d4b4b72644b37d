/** What the export counts, and how far each partition lags. */
import type { Counter, Gauge, Metrics } from '../../shared/system.ts'
import type { ExportInfo } from '../../shared/wire.ts'

export interface ExportMetrics {
  readonly segments: Counter
  readonly bytes: Counter
  readonly failures: Counter
  readonly lagSegments: Gauge
  readonly lagBytes: Gauge
  readonly lagSeconds: Gauge
  readonly oldestSeconds: Gauge
  readonly stuck: Gauge
}

export function declareExportMetrics(metrics: Metrics): ExportMetrics {
  const labels = ['topic', 'partition']
  return {
    segments: metrics.counter('tailrace_collector_export_segments_total', 'Segments recorded on the store.'),
    bytes: metrics.counter('tailrace_collector_export_bytes_total', 'Bytes uploaded to the store, repeats included.'),
    failures: metrics.counter('tailrace_collector_export_failures_total', 'Failed exports of a segment, by error code.', ['code']),
    lagSegments: metrics.gauge('tailrace_collector_export_lag_segments', 'Sealed segments that are not exported.', labels),
    lagBytes: metrics.gauge('tailrace_collector_export_lag_bytes', 'Bytes of sealed segments that are not exported.', labels),
    lagSeconds: metrics.gauge('tailrace_collector_export_lag_seconds', 'Age of the oldest sealed segment that is not exported.', labels),
    oldestSeconds: metrics.gauge('tailrace_collector_export_oldest_unexported_seconds', 'Age of the oldest record that is not exported, sealed or not.', labels),
    stuck: metrics.gauge('tailrace_collector_export_stuck', '1 where a person has to look: a gap, or a store that refuses.', labels),
  }
}

export function publishLag(metrics: ExportMetrics, infos: readonly ExportInfo[]): void {
  for (const info of infos) {
    const labels = { topic: info.topic, partition: String(info.partition) }
    metrics.lagSegments.set(info.lagSegments, labels)
    metrics.lagBytes.set(info.lagBytes, labels)
    metrics.lagSeconds.set(info.lagMs / 1000, labels)
    metrics.oldestSeconds.set(info.oldestUnexportedMs / 1000, labels)
    metrics.stuck.set(info.state === 'parked' || info.state === 'gap' ? 1 : 0, labels)
  }
}
