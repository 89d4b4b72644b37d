import { expect, test } from 'vitest'
import { tableDdl } from '../../../collector/cli/exports-ddl.ts'
import type { ExportInfo } from '../../../shared/wire.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { FakeCollector } from './fake-collector.ts'
import { cli } from './run-cli.ts'

test('a Hive table lies where Hive looks, with its columns and partitions', () => {
  const text = tableDdl('hive', { topic: 'web.access-1', format: 'parquet', store: 'http://nn1:9870,http://nn2:9870/logs' })
  expect(text).toContain('CREATE EXTERNAL TABLE IF NOT EXISTS `web_access_1` (')
  expect(text).toContain('`ts` TIMESTAMP')
  expect(text).toContain('PARTITIONED BY (`dt` STRING, `hour` STRING)\nSTORED AS PARQUET\nLOCATION \'/logs/tables/web.access-1\';')
  expect(text).toContain('MSCK REPAIR TABLE `web_access_1`;')
  expect(tableDdl('hive', { topic: 'app', format: 'jsonl', store: 'file:///srv/x' })).toContain("JsonSerDe'\nSTORED AS TEXTFILE\nLOCATION 'file:///srv/x/tables/app';")
})

test('a DuckDB view names the folder as DuckDB reads it', () => {
  expect(tableDdl('duckdb', { topic: 'app', format: 'parquet', store: "file:///srv/it's%20here" })).toContain("read_parquet('/srv/it''s here/tables/app/*/*/*.parquet'")
  const hdfs = tableDdl('duckdb', { topic: 'app', format: 'jsonl', store: 'http://nn1:9870/logs' })
  expect(hdfs).toContain('LOAD hdfs;')
  expect(hdfs).toContain("read_json('hdfs://nn1:8020/logs/tables/app/*/*/*.jsonl.gz'")
})

const info: ExportInfo = {
  topic: 'app', partition: 0, exportedOffset: 9, logEndOffset: 9, lagSegments: 0, lagBytes: 0, lagMs: 0, oldestUnexportedMs: 0, state: 'idle', reason: null, segments: [],
  tables: { format: 'parquet', publishedOffset: 7, completeUntilMs: Date.UTC(2026, 0, 1, 10), state: 'parked', reason: 'quota' },
}

const { tables: _tables, ...plainInfo } = info
const plain: ExportInfo = { ...plainInfo, topic: 'plain' }

test('exports shows how far the tables are, and prints their statements', async () => {
  const http = new FakeCollector(await loadZstd())
  http.exports = [info, { ...info, partition: 1 }, plain]
  const shown = await cli(['exports', '--utc'], { http })
  expect(shown.stdout).toContain('7 parquet, parked')
  expect(shown.stdout).toContain('2026-01-01T10:00:00.000Z')
  expect(shown.stdout).toContain('quota')
  const printed = await cli(['exports', '--ddl', 'duckdb', '--root', 'file:///srv/t'], { http })
  expect(printed.stdout.match(/CREATE OR REPLACE VIEW/g)).toHaveLength(1)
  expect(printed.stdout).toContain("'/srv/t/tables/app/*/*/*.parquet'")
  expect((await cli(['exports', '--ddl', 'hive', '-t', 'plain'], { http })).code).toBe(1)
})
