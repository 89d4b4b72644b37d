/** What the tables count. */
import type { Counter, Gauge, Metrics } from '../../../shared/system.ts'

export interface TableMetrics {
  readonly files: Counter
  readonly lateFiles: Counter
  readonly rows: Counter
  readonly bytes: Counter
  readonly unreadable: Counter
  readonly failures: Counter
  readonly lagSeconds: Gauge
}

export function declareTableMetrics(metrics: Metrics): TableMetrics {
  return {
    files: metrics.counter('tailrace_collector_table_files_total', 'Table files published.', ['topic']),
    lateFiles: metrics.counter('tailrace_collector_table_late_files_total', 'Of those, files of an hour that was complete before.', ['topic']),
    rows: metrics.counter('tailrace_collector_table_rows_total', 'Rows in them.', ['topic']),
    bytes: metrics.counter('tailrace_collector_table_bytes_total', 'Bytes uploaded for tables, repeats and markers included.'),
    unreadable: metrics.counter('tailrace_collector_table_unreadable_records_total', 'Records in batches that can not be decompressed: in the raw export, in no table.', ['topic']),
    failures: metrics.counter('tailrace_collector_table_failures_total', 'Failed table steps, by error code.', ['code']),
    lagSeconds: metrics.gauge('tailrace_collector_table_lag_seconds', 'Age of the end of the last hour that is complete in the tables.', ['topic']),
  }
}
