/** The metrics of the collector's storage, declared once. Partition labels only on gauges that `maintain` sets. */
import type { Counter, Gauge, Histogram, Metrics } from '../../shared/system.ts'

export interface StorageMetrics {
  readonly appendedBytes: Counter
  readonly appendedBatches: Counter
  readonly appendedRecords: Counter
  readonly appendResults: Counter
  readonly syncSeconds: Histogram
  readonly logStartOffset: Gauge
  readonly highWatermark: Gauge
  readonly partitionBytes: Gauge
  readonly partitionState: Gauge
  readonly queuedBytes: Gauge
  readonly streams: Gauge
  readonly alarms: Gauge
  readonly droppedSegments: Counter
}

export function createStorageMetrics(metrics: Metrics): StorageMetrics {
  const partition = ['topic', 'partition']
  return {
    appendedBytes: metrics.counter('tailrace_collector_append_bytes_total', 'Bytes of batches synced to the log', ['topic']),
    appendedBatches: metrics.counter('tailrace_collector_append_batches_total', 'Batches synced to the log', ['topic']),
    appendedRecords: metrics.counter('tailrace_collector_append_records_total', 'Records synced to the log', ['topic']),
    appendResults: metrics.counter('tailrace_collector_append_results_total', 'Answers to batches by kind or error code', ['result']),
    syncSeconds: metrics.histogram('tailrace_collector_sync_seconds', 'Time of one fdatasync of a commit group', [
      0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5,
    ]),
    logStartOffset: metrics.gauge('tailrace_collector_log_start_offset', 'First offset that is still there', partition),
    highWatermark: metrics.gauge('tailrace_collector_high_watermark', 'First offset that readers may not see yet', partition),
    partitionBytes: metrics.gauge('tailrace_collector_partition_bytes', 'Bytes of all segments', partition),
    partitionState: metrics.gauge('tailrace_collector_partition_state', '0 ok, 1 damaged, 2 failed', partition),
    queuedBytes: metrics.gauge('tailrace_collector_queue_bytes', 'Bytes that wait for the disk'),
    streams: metrics.gauge('tailrace_collector_streams', 'Streams whose position is known'),
    alarms: metrics.gauge('tailrace_collector_storage_alarms', 'Conditions that need a person'),
    droppedSegments: metrics.counter('tailrace_collector_segments_dropped_total', 'Segments dropped by retention', ['topic']),
  }
}
