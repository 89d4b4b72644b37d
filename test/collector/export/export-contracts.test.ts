import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe } from 'vitest'
import { openRemoteStore, type StoreOptions } from '../../../collector/export/open-store.ts'
import type { RemoteStore } from '../../../collector/export/remote-store.ts'
import { createHttpClient } from '../../../shared/node/http-client.ts'
import { nodeFileSystem } from '../../../shared/node/file-system.ts'
import { simulate } from '../../sim-system.ts'
import { WebHdfsStandIn } from '../../webhdfs-stand-in.ts'
import { describeExport } from './export-contract.ts'
import { describeReadBack } from './read-back-contract.ts'

const http = createHttpClient()
const streamingHttp = createHttpClient({ keepsConnections: false })
let folder: string

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-contract-'))
})
afterAll(async () => {
  await rm(folder, { recursive: true })
  await http.close()
  await streamingHttp.close()
})

const flavours: readonly { readonly name: string; readonly mode?: NonNullable<StoreOptions['mode']> }[] = [
  { name: 'a folder' },
  { name: 'a stand-in of WebHDFS', mode: 'webhdfs' },
  { name: 'a stand-in of HttpFS', mode: 'httpfs' },
]

describe.each(flavours)('on $name', ({ mode }) => {
  let standIn: WebHdfsStandIn | undefined
  let count = 0

  beforeAll(async () => {
    standIn = mode === undefined ? undefined : await WebHdfsStandIn.start({ flavour: mode })
  })
  afterAll(() => standIn?.close())

  const newPlace = (): (() => RemoteStore) => {
    count += 1
    const url = standIn === undefined ? `file://${folder}/${count}` : `${standIn.url}/${count}`
    const system = { ...simulate().system, fs: nodeFileSystem() }
    return () => openRemoteStore(url, mode === undefined ? {} : { mode }, { system, http, streamingHttp: { ...streamingHttp, close: () => Promise.resolve() } })
  }
  describeExport(newPlace)
  describeReadBack(newPlace)
})
