/**
 * Entry of `tailrace`: builds the real System, adapts the process's streams and signals, and exits with the code that
 * the command line answers. Nothing else of the CLI touches the process.
 */
import { hostname } from 'node:os'
import { errnoOf } from '../../shared/errors.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { createHttpClient } from '../../shared/node/http-client.ts'
import type { HttpClient } from '../../shared/system.ts'
import { VERSION } from '../../shared/version.ts'
import { loadZstd } from '../../shared/zstd.ts'
import type { CliContext, OutputSink } from './context.ts'
import { exitCodes } from './exit-codes.ts'
import { runCli } from './index.ts'

/** A bug is no answer of a command; sysexits.h calls it EX_SOFTWARE. */
const BUG_EXIT_CODE = 70

async function main(): Promise<void> {
  const abort = new AbortController()
  let interrupts = 0
  process.on('SIGINT', () => {
    interrupts += 1
    abort.abort('interrupt')
    // Whoever presses twice means it.
    if (interrupts > 1) process.exit(exitCodes.interrupted)
  })
  const system = createNodeSystem({ component: 'cli', logLevel: 'warn' })
  const clients: HttpClient[] = [system.http]
  const context: CliContext = {
    stdout: processSink(process.stdout, () => abort.abort('pipe')),
    stderr: processSink(process.stderr, () => undefined),
    env: process.env,
    system,
    loadZstd: () => loadZstd(),
    openHttp: (tls) => {
      const client = createHttpClient({ tls })
      clients.push(client)
      return client
    },
    openStore: async (source, onProgress) => {
      const tls = source.ca === undefined ? {} : { tls: { ca: source.ca } }
      // Loaded only here: the other commands need no query engine, and start faster without one.
      const { openStoreReader } = await import('../store-reader.ts')
      const http = createHttpClient(tls)
      clients.push(http)
      const { url, mode, auth, userName, tokenFile, allowedHosts } = source
      const reader = await openStoreReader(system, {
        url,
        store: { mode, auth, allowedHosts, ...(userName === undefined ? {} : { userName }), ...(tokenFile === undefined ? {} : { delegationTokenFile: tokenFile }) },
        transport: { http, streamingHttp: createHttpClient({ ...tls, keepsConnections: false }) },
        zstd: await loadZstd(),
        signal: abort.signal,
        onProgress,
      })
      clients.push(reader)
      return reader
    },
    hostName: hostname(),
    version: VERSION,
    signal: abort.signal,
  }
  try {
    process.exitCode = await runCli(process.argv.slice(2), context)
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
    process.exitCode = BUG_EXIT_CODE
  }
  // Connections that are kept alive would keep the process alive as well.
  for (const client of clients) await client.close()
}

function processSink(stream: NodeJS.WriteStream, onGone: () => void): OutputSink {
  let gone: Error | undefined
  stream.on('error', (error: Error) => {
    gone = error
    if (errnoOf(error) === 'EPIPE') onGone()
  })
  return {
    isTty: stream.isTTY === true,
    write: (data) => {
      if (gone !== undefined) return Promise.reject(gone)
      if (stream.write(data)) return undefined
      return new Promise((resolve, reject) => {
        const done = (): void => {
          stream.off('drain', done)
          stream.off('error', failed)
          resolve()
        }
        const failed = (error: Error): void => {
          stream.off('drain', done)
          stream.off('error', failed)
          reject(error)
        }
        stream.on('drain', done)
        stream.on('error', failed)
      })
    },
  }
}

void main()
