/** An exporter with tables over a simulated disk and a file store on another: what the tests of the tables share. */
import { gunzipSync } from 'node:zlib'
import { createExporter, type Exporter, type ExporterOptions } from '../../../../collector/export/exporter.ts'
import { createFileStore } from '../../../../collector/export/file-store.ts'
import { readSmall, type RemoteStore } from '../../../../collector/export/remote-store.ts'
import { createInProcessEncoder } from '../../../../collector/export/tables/encoder-host.ts'
import type { TablesOptions } from '../../../../collector/export/tables/table-exporter.ts'
import { parseHour } from '../../../../collector/export/tables/table-layout.ts'
import type { Zstd } from '../../../../shared/zstd.ts'
import { SimFileSystem } from '../../../sim-fs.ts'
import { simulate, type Simulation } from '../../../sim-system.ts'
import { SealedSegments } from '../sealed-segments.ts'

export const START_MS = Date.UTC(2026, 0, 1)
export const HOUR = 3_600_000
export const MINUTE = 60_000
export const LATENESS_MS = 10 * MINUTE

export interface StoredRow {
  readonly hour: number
  readonly ts: string
  readonly offset: number
  readonly partition: number
  readonly message: string
}

export class TableRig {
  readonly sim: Simulation
  readonly remoteDisk: SimFileSystem
  readonly store: RemoteStore
  readonly segments: SealedSegments
  private readonly zstd: Zstd

  constructor(zstd: Zstd) {
    this.zstd = zstd
    this.sim = simulate({ nowMs: START_MS })
    this.remoteDisk = new SimFileSystem({ nowMs: () => this.sim.clock.nowMs() })
    this.store = createFileStore(this.remoteDisk, '/hdfs')
    this.segments = new SealedSegments({ fs: this.sim.fs, zstd })
  }

  async started(options: Partial<ExporterOptions> = {}, tables: Partial<TablesOptions> = {}): Promise<Exporter> {
    const wanted = { format: 'jsonl' as const, latenessMs: LATENESS_MS, encoder: createInProcessEncoder(this.zstd), ...tables }
    return this.start({ tables: wanted, ...options })
  }

  startedWithoutTables(): Promise<Exporter> {
    return this.start({})
  }

  private async start(options: Partial<ExporterOptions>): Promise<Exporter> {
    const exporter = createExporter(this.sim.system, { log: this.segments.log, store: this.store, zstd: this.zstd, dataDir: '/data', ...options })
    await exporter.start()
    return exporter
  }

  /** Paths of all files below `tables/`, in order. */
  async files(): Promise<string[]> {
    const found: string[] = []
    const walk = async (path: string): Promise<void> => {
      for (const { name, kind } of await this.store.list(path)) {
        if (kind === 'directory') await walk(`${path}/${name}`)
        else found.push(`${path}/${name}`)
      }
    }
    await walk('tables')
    return found.sort()
  }

  async tableFiles(): Promise<string[]> {
    return (await this.files()).filter((path) => path.endsWith('.jsonl.gz'))
  }

  /** Every row in every file, as a reader with a glob sees them. */
  async rows(): Promise<StoredRow[]> {
    const rows: StoredRow[] = []
    for (const path of await this.tableFiles()) {
      const [, , date = '', hour = ''] = path.split('/')
      const text = gunzipSync(await readSmall(this.store, path, 1 << 30)).toString('utf8')
      for (const line of text.split('\n').slice(0, -1)) rows.push({ hour: parseHour(date, hour) ?? -1, ...(JSON.parse(line) as Omit<StoredRow, 'hour'>) })
    }
    return rows
  }
}

/** Rows that stand in two files, or in the folder of another hour than their own. */
export function wrongRows(rows: readonly StoredRow[]): string[] {
  const seen = new Set<string>()
  const wrong: string[] = []
  for (const row of rows) {
    const name = `${row.partition}/${row.offset}`
    if (seen.has(name)) wrong.push(`twice: ${name}`)
    seen.add(name)
    if (Math.floor(Date.parse(row.ts) / HOUR) !== row.hour) wrong.push(`${name} of ${row.ts} in hour ${row.hour}`)
  }
  return wrong
}
