/**
 * `tailrace exports --ddl`: the statements that make a topic's tables known to Hive or DuckDB. Pure text; columns as in
 * collector/export/tables/table-row.ts.
 */
import { fileURLToPath } from 'node:url'

export interface DdlRequest {
  readonly topic: string
  readonly format: 'jsonl' | 'parquet'
  /** Where the export goes, as the collector says it, or what the caller put in its place. */
  readonly store: string
}

export const ddlDialects = ['hive', 'duckdb'] as const
export type DdlDialect = (typeof ddlDialects)[number]

/** Statements, with a newline at the end. */
export function tableDdl(dialect: DdlDialect, request: DdlRequest): string {
  return dialect === 'hive' ? hiveDdl(request) : duckdbDdl(request)
}

function duckdbDdl({ topic, format, store }: DdlRequest): string {
  const folder = `${duckdbFolder(store)}/tables/${topic}`
  const extension = format === 'parquet' ? 'parquet' : 'jsonl.gz'
  const files = sqlText(`${folder}/*/*/*.${extension}`)
  const hive = "hive_partitioning = true, hive_types = {'dt': DATE, 'hour': VARCHAR}"
  const columns = "{ts: 'TIMESTAMPTZ', \"offset\": 'BIGINT', \"partition\": 'INTEGER', host: 'VARCHAR', path: 'VARCHAR', stream: 'VARCHAR', level: 'VARCHAR', message: 'VARCHAR', messageB64: 'VARCHAR', labels: 'JSON', mark: 'VARCHAR'}"
  const reader = format === 'parquet'
    ? `read_parquet(${files}, ${hive}, union_by_name = true)`
    : `read_json(${files}, format = 'newline_delimited', compression = 'gzip', maximum_object_size = 67108864,\n  columns = ${columns},\n  ${hive})`
  const setUp = folder.startsWith('hdfs:') ? '-- DuckDB reads HDFS by a community extension; host and port are those of the NameNode\'s RPC.\nINSTALL hdfs FROM community;\nLOAD hdfs;\n' : ''
  return `${setUp}CREATE OR REPLACE VIEW ${sqlName(topic)} AS\nSELECT * FROM ${reader};\n`
}

function hiveDdl({ topic, format, store }: DdlRequest): string {
  const name = `\`${topic.replaceAll(/[^A-Za-z0-9_]/g, '_').toLowerCase()}\``
  const isParquet = format === 'parquet'
  const columns = [
    `\`ts\` ${isParquet ? 'TIMESTAMP' : 'STRING COMMENT \'ISO 8601, UTC\''}`,
    '`offset` BIGINT',
    '`partition` INT',
    ...['host', 'path', 'stream', 'level', 'message', 'messageb64'].map((column) => `\`${column}\` STRING`),
    `\`labels\` ${isParquet ? 'STRING COMMENT \'JSON\'' : 'MAP<STRING,STRING>'}`,
    '`mark` STRING',
  ]
  const stored = isParquet ? 'STORED AS PARQUET' : "ROW FORMAT SERDE 'org.apache.hive.hcatalog.data.JsonSerDe'\nSTORED AS TEXTFILE"
  const location = sqlText(`${hiveFolder(store)}/tables/${topic}`)
  return `CREATE EXTERNAL TABLE IF NOT EXISTS ${name} (\n  ${columns.join(',\n  ')}\n)\nPARTITIONED BY (\`dt\` STRING, \`hour\` STRING)\n${stored}\nLOCATION ${location};\n-- Again whenever hours were added.\nMSCK REPAIR TABLE ${name};\n`
}

/** A local folder as a path; of WebHDFS addresses the folder, on the NameNode's RPC port. */
function duckdbFolder(store: string): string {
  if (store.startsWith('file:')) return fileURLToPath(store).replace(/\/+$/, '')
  const http = parseWebHdfs(store)
  return http === undefined ? store.replace(/\/+$/, '') : `hdfs://${http.host}:8020${http.root}`
}

/** Without host and port Hive takes its own file system, which knows about failover. */
function hiveFolder(store: string): string {
  return (parseWebHdfs(store)?.root ?? store).replace(/\/+$/, '')
}

/** `http://nn1:9870,http://nn2:9870/folder`: the first NameNode and the folder. */
function parseWebHdfs(store: string): { readonly host: string; readonly root: string } | undefined {
  const addresses = store.split(',')
  const [first, last] = [addresses[0] ?? '', addresses.at(-1) ?? '']
  if (!/^https?:\/\//.test(first) || !URL.canParse(first) || !URL.canParse(last)) return undefined
  return { host: new URL(first).hostname, root: decodeURIComponent(new URL(last).pathname).replace(/\/+$/, '') }
}

function sqlText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

function sqlName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
