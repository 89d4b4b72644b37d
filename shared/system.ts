/**
 * Every source of nondeterminism, as interfaces: clock, randomness, disk, network, log, metrics. `main.ts` builds the
 * real ones (node-system.ts) and passes them down; tests pass simulated ones (test/sim-system.ts, test/sim-fs.ts).
 * Nothing else may touch node:fs, node:http, Date.now, timers or Math.random; test/tidy.test.ts holds that.
 */

export interface Clock {
  /** Wall clock, ms since 1970. It may jump; use it for what people read and for retention, never for waiting. */
  nowMs(): number
  /** Never jumps. The zero point is arbitrary. */
  monotonicMs(): number
  /** Resolves after `ms` of monotonic time; rejects with AppError ABORTED when the signal fires first. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export interface Random {
  /** Uniform in [0, 1). */
  next(): number
  /** Unpredictable bytes: good enough for tokens and ids. */
  bytes(count: number): Buffer
}

export type FileKind = 'file' | 'directory' | 'symlink' | 'fifo' | 'other'

export interface FileStat {
  readonly kind: FileKind
  readonly size: number
  readonly inode: bigint
  readonly device: bigint
  /** 0n where the file system has none. */
  readonly birthtimeNs: bigint
  readonly mtimeMs: number
  readonly ctimeMs: number
  readonly linkCount: number
  /** Permission bits, 0o777 mask. */
  readonly mode: number
}

export interface DirectoryEntry {
  readonly name: string
  readonly kind: FileKind
}

/**
 * `read`: existing file, read only. `readSource`: the same with O_NONBLOCK|O_NOFOLLOW, for files that others own (a
 * FIFO must not block the thread pool). `readWrite`: existing file. `create`: O_EXCL, fails with EEXIST.
 * `readWriteCreate`: opened or created. `truncateWrite`: created or emptied.
 */
export type OpenMode = 'read' | 'readSource' | 'readWrite' | 'create' | 'readWriteCreate' | 'truncateWrite'

export interface ReadableFile {
  /** Bytes read, 0 at the end of the file; may be short. */
  read(target: Buffer, options: { offset: number; length: number; position: number }): Promise<number>
}

export interface FileHandle extends ReadableFile {
  /** One pwritev. Bytes written; a short count without an error is how a full disk may look, so callers check. */
  write(buffers: readonly Uint8Array[], position: number): Promise<number>
  stat(): Promise<FileStat>
  /** fdatasync: contents and size are durable on return. After a failure the handle must not be synced again. */
  datasync(): Promise<void>
  sync(): Promise<void>
  truncate(size: number): Promise<void>
  close(): Promise<void>
}

export interface FileLock {
  release(): Promise<void>
}

/** Rejections are the platform's own errors with `code` (ENOENT, ENOSPC, EEXIST …); callers translate with errnoOf. */
export interface FileSystem {
  /** `permissions` counts only for a file that this call makes; default 0o640. */
  open(path: string, mode: OpenMode, permissions?: number): Promise<FileHandle>
  /** undefined when nothing is there. Does not follow a final symlink unless told. */
  stat(path: string, options?: { followSymlinks?: boolean }): Promise<FileStat | undefined>
  /** Entries in no particular order; rejects with ENOENT or ENOTDIR. */
  list(path: string): Promise<DirectoryEntry[]>
  makeDirectory(path: string): Promise<void>
  rename(from: string, to: string): Promise<void>
  /** Removes a file; rejects with ENOENT when absent. */
  remove(path: string): Promise<void>
  removeDirectory(path: string): Promise<void>
  /** Creates, renames and removes inside are durable on return, not before. */
  syncDirectory(path: string): Promise<void>
  realPath(path: string): Promise<string>
  freeBytes(path: string): Promise<number>
  /** Exclusive between processes, given up by the kernel or recognised as stale when its holder died. LOCKED if held. */
  lock(path: string): Promise<FileLock>
}

/** Wakes its listener when something below one of the directories may have changed; false wake-ups are allowed. */
export interface DirectoryWatcher {
  /** Directories to watch from now on (replaces the earlier set). */
  watch(directories: readonly string[]): void
  close(): Promise<void>
}

export interface WatchEvent {
  /** Path of what changed, as far as the platform tells; the directory when it does not. */
  readonly path: string
}

export interface HttpRequest {
  readonly method: 'GET' | 'PUT' | 'POST' | 'PATCH' | 'DELETE'
  readonly url: string
  readonly headers?: Readonly<Record<string, string>>
  /** Buffers are sent one after another with a Content-Length of their sum; they must not change before the answer. */
  readonly body?: readonly Uint8Array[] | { readonly length: number; readonly stream: AsyncIterable<Uint8Array> }
  readonly signal?: AbortSignal
  /** From the last byte sent to the head of the answer. Default 30,000. */
  readonly headersTimeoutMs?: number
  /** Between two pieces of the answer's body; 0 = never. Default 30,000. */
  readonly bodyTimeoutMs?: number
}

export interface HttpResponse {
  readonly status: number
  /** Names in lower case. Repeated headers are joined with ", ". */
  readonly headers: ReadonlyMap<string, string>
  /** Ends the connection when abandoned (iterator return). */
  readonly body: AsyncIterable<Uint8Array>
}

/**
 * Redirects are never followed and bodies never decompressed. Rejects with AppError CANNOT_CONNECT when the request
 * certainly was not processed, UNKNOWN_OUTCOME when it may have been, ABORTED after the signal.
 */
export interface HttpClient {
  request(request: HttpRequest): Promise<HttpResponse>
  close(): Promise<void>
}

export type LogFields = Readonly<Record<string, unknown>>

/** Structured log lines about ourselves. `event` is a short fixed phrase; values go into fields, never secrets. */
export interface Log {
  debug(event: string, fields?: LogFields): void
  info(event: string, fields?: LogFields): void
  warn(event: string, fields?: LogFields): void
  error(event: string, fields?: LogFields): void
}

export type Labels = Readonly<Record<string, string>>

export interface Counter {
  add(count: number, labels?: Labels): void
}
export interface Gauge {
  set(value: number, labels?: Labels): void
}
export interface Histogram {
  observe(value: number, labels?: Labels): void
}

/** Asking twice for one name gives the same metric. Names are whole: `tailrace_agent_lines_read_total`. */
export interface Metrics {
  counter(name: string, help: string, labelNames?: readonly string[]): Counter
  gauge(name: string, help: string, labelNames?: readonly string[]): Gauge
  histogram(name: string, help: string, buckets: readonly number[], labelNames?: readonly string[]): Histogram
  /** Prometheus text exposition. */
  render(): Promise<string>
}

export interface System {
  readonly clock: Clock
  readonly random: Random
  readonly fs: FileSystem
  /** Kept connections: agent to collector, CLI to collector, exporter to NameNode. */
  readonly http: HttpClient
  readonly log: Log
  readonly metrics: Metrics
}
