/** Runs the command line as a shell would, with a fake collector behind it, and answers what came out. */
import { runCli } from '../../../collector/cli/index.ts'
import { openStoreReader } from '../../../collector/store-reader.ts'
import type { OutputSink } from '../../../collector/cli/context.ts'
import type { HttpClient } from '../../../shared/system.ts'
import { loadZstd } from '../../../shared/zstd.ts'
import { simulate, type Simulation } from '../../sim-system.ts'

export interface CliRun {
  readonly code: number
  readonly stdout: string
  readonly bytes: Buffer
  readonly stderr: string
}

export interface CliOptions {
  readonly http?: HttpClient
  readonly simulation?: Simulation
  readonly isTty?: boolean
  readonly env?: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
  readonly hostName?: string
}

export class MemorySink implements OutputSink {
  readonly isTty: boolean
  readonly pieces: Buffer[] = []

  constructor(isTty: boolean) {
    this.isTty = isTty
  }

  write(data: Uint8Array): Promise<void> | undefined {
    this.pieces.push(Buffer.from(data))
    return undefined
  }

  get bytes(): Buffer {
    return Buffer.concat(this.pieces)
  }
}

export async function cli(argv: readonly string[], options: CliOptions = {}): Promise<CliRun> {
  const stdout = new MemorySink(options.isTty ?? false)
  const stderr = new MemorySink(options.isTty ?? false)
  const simulation = options.simulation ?? simulate()
  const code = await runCli(argv, {
    stdout, stderr,
    env: options.env ?? {},
    system: { ...simulation.system, ...(options.http === undefined ? {} : { http: options.http }) },
    loadZstd: () => loadZstd(),
    openHttp: () => options.http ?? simulation.system.http,
    openStore: async ({ url }, onProgress) =>
      openStoreReader(simulation.system, {
        url, store: {}, transport: { http: simulation.system.http, streamingHttp: simulation.system.http }, zstd: await loadZstd(),
        signal: new AbortController().signal, onProgress,
      }),
    hostName: options.hostName ?? 'this-machine',
    version: '1.2.3',
    signal: options.signal ?? new AbortController().signal,
  })
  return { code, stdout: stdout.bytes.toString('utf8'), bytes: stdout.bytes, stderr: stderr.bytes.toString('utf8') }
}
