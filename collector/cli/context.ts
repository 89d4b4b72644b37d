/**
 * What a command may touch: its two output streams, the environment, the System and the signal that ends it. main.ts
 * builds the real one, tests pass their own; nothing in this folder reaches for `process`.
 */
import type { HttpClient, System } from '../../shared/system.ts'
import type { Zstd } from '../../shared/zstd.ts'

export interface OutputSink {
  readonly isTty: boolean
  /**
   * Takes the bytes in order. undefined = write on; a promise = wait for it before writing more, so that a slow reader
   * slows us down instead of filling our memory. Rejects when the reader is gone.
   */
  write(data: Uint8Array): Promise<void> | undefined
}

/** An export store, and how to get in; the names are those of the collector's settings. */
export interface StoreSource {
  readonly url: string
  readonly mode: 'webhdfs' | 'httpfs'
  readonly auth: 'simple' | 'kerberos'
  readonly userName: string | undefined
  readonly tokenFile: string | undefined
  readonly allowedHosts: readonly string[]
  /** PEM. */
  readonly ca: string | undefined
}

export interface CliContext {
  readonly stdout: OutputSink
  readonly stderr: OutputSink
  readonly env: Readonly<Record<string, string | undefined>>
  readonly system: System
  /** Loaded only by the commands that open batches. */
  readonly loadZstd: () => Promise<Zstd>
  /** A client that trusts only this authority (PEM). Whoever made the context closes it. */
  readonly openHttp: (options: { readonly ca: string }) => HttpClient
  /** A client that answers what a collector would, out of an export store. Whoever made the context closes it. */
  readonly openStore: (source: StoreSource, onProgress: (manifests: number) => Promise<void>) => Promise<HttpClient>
  /** This machine's name: `verify` compares sources that stand here. */
  readonly hostName: string
  readonly version: string
  /** Fires on SIGINT and when stdout's reader is gone. */
  readonly signal: AbortSignal
}
