/**
 * The contract of RemoteStore, and a whole export, on a real Hadoop. Needs one that runs: set TAILRACE_HDFS_URL
 * (`http://127.0.0.1:9870/tailrace-test`) and, for HttpFS, TAILRACE_HTTPFS_URL (`http://127.0.0.1:14000/tailrace-test`).
 * What the stand-in claims about Hadoop is only as good as the last run of this file.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createExporter } from '../../collector/export/exporter.ts'
import { openRemoteStore, type StoreOptions } from '../../collector/export/open-store.ts'
import { bufferSource, type RemoteStore } from '../../collector/export/remote-store.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { createStreamingHttpClient } from '../../shared/streaming-http.ts'
import type { FileSystem } from '../../shared/system.ts'
import { loadZstd } from '../../shared/zstd.ts'
import { codeOf, describeRemoteStore, patterned, piecewise, sha256 } from '../collector/export/remote-store-contract.ts'
import { SealedSegments } from '../collector/export/sealed-segments.ts'

const servers: readonly { readonly name: string; readonly variable: string; readonly options: StoreOptions }[] = [
  { name: 'WebHDFS', variable: 'TAILRACE_HDFS_URL', options: { userName: 'root' } },
  { name: 'HttpFS', variable: 'TAILRACE_HTTPFS_URL', options: { userName: 'root', mode: 'httpfs' } },
]

const system = createNodeSystem({ logLevel: 'error' })

function open(url: string, options: StoreOptions): RemoteStore {
  return openRemoteStore(url, options, { system, http: system.http, streamingHttp: createStreamingHttpClient() })
}

afterAll(() => system.http.close())

for (const { name, variable, options } of servers) {
  const url = process.env[variable]
  if (url === undefined) process.stderr.write(`SKIPPED: ${name} contract, because ${variable} is not set\n`)

  describe.skipIf(url === undefined)(`a real ${name}`, () => {
    const address = url ?? 'http://127.0.0.1:1/none'
    describeRemoteStore(() => Promise.resolve({ store: open(address, options) }))

    test('its checksum of one block and of many is what is recomputed here', async () => {
      const store = open(address, options)
      await store.makeDirectories('checksums')
      for (const lengthBytes of [1, 511, 512, 513, 1024 * 1024, 2_500_000]) {
        const path = `checksums/${system.random.bytes(8).toString('hex')}`
        const bytes = patterned(lengthBytes)
        await store.put(path, piecewise(bytes))
        // A hash that can't be right: only the checksum of the store can make this `same`.
        expect(await store.matches(path, { lengthBytes, sha256: '0'.repeat(64), source: piecewise(bytes) })).toBe('same')
      }
    })

    test('an upload that stops in the middle leaves something that is not the same', async () => {
      const store = open(address, options)
      const path = `contract/${system.random.bytes(8).toString('hex')}`
      await store.makeDirectories('contract')
      const bytes = patterned(8 * 1024 * 1024)
      const failing = {
        lengthBytes: bytes.length,
        open: async function* () {
          for (let at = 0; at < 5; at += 1) yield bytes.subarray(at << 20, (at + 1) << 20)
          throw new Error('the local disk failed')
        },
      }
      expect(await codeOf(store.put(path, failing))).not.toBe('none')
      expect(['length', 'missing']).toContain(await store.matches(path, { lengthBytes: bytes.length, sha256: sha256(bytes), source: bufferSource(bytes) }))
    })

    describe('with an exporter', () => {
      let folder: string

      beforeAll(async () => {
        folder = await mkdtemp(join(tmpdir(), 'tailrace-real-'))
      })
      afterAll(() => rm(folder, { recursive: true }))

      test('segments come out byte for byte', async () => {
        const zstd = await loadZstd()
        const fs = below(system.fs, folder)
        const segments = new SealedSegments({ fs, zstd })
        for (let partition = 0; partition < 3; partition += 1) {
          for (let count = 0; count < 3; count += 1) await segments.add('app', partition, { batches: 20, linesEach: 500 })
        }
        const store = open(`${address}/export-${system.random.bytes(8).toString('hex')}`, options)
        const exporter = createExporter({ ...system, fs }, { log: segments.log, store, zstd, dataDir: '/data' })
        await exporter.start()
        await exporter.exportNow()
        const results: string[] = []
        for await (const each of exporter.verify({ deep: true })) results.push(each.result)
        expect(results).toEqual(Array.from({ length: 9 }, () => 'ok'))
        await exporter.close()
      })
    })
  })
}

/** The same file system with `/data` in a folder of the test. */
function below(fs: FileSystem, folder: string): FileSystem {
  const at = (path: string): string => (path === '/' ? folder : `${folder}${path}`)
  return {
    ...fs,
    open: (path, mode) => fs.open(at(path), mode),
    stat: (path, options) => fs.stat(at(path), options),
    list: (path) => fs.list(at(path)),
    makeDirectory: (path) => fs.makeDirectory(at(path)),
    rename: (from, to) => fs.rename(at(from), at(to)),
    remove: (path) => fs.remove(at(path)),
    syncDirectory: (path) => fs.syncDirectory(at(path)),
  }
}
