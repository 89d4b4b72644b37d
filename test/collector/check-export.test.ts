import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runCheckExport } from '../../collector/check-export.ts'
import { collectorSettings, toCollectorConfig, type CollectorConfig } from '../../collector/config.ts'
import { AppError } from '../../shared/errors.ts'
import { createHttpClient } from '../../shared/node/http-client.ts'
import { parseSettings } from '../../shared/settings.ts'
import type { HttpClient } from '../../shared/system.ts'
import { simulate } from '../sim-system.ts'
import { WebHdfsStandIn } from '../webhdfs-stand-in.ts'

const http = createHttpClient()
const streamingHttp = createHttpClient({ keepsConnections: false })
let standIn: WebHdfsStandIn

beforeEach(async () => {
  standIn = await WebHdfsStandIn.start()
})
afterEach(() => standIn.close())
afterAll(async () => {
  await http.close()
  await streamingHttp.close()
})

function configOf(flags: Readonly<Record<string, unknown>>): CollectorConfig {
  const result = toCollectorConfig(parseSettings(collectorSettings, { flags: { data: '/data', ...flags } }))
  if ('problems' in result) throw new Error(JSON.stringify(result.problems))
  return result.config
}

async function check(flags: Readonly<Record<string, unknown>>, dataNodes: HttpClient = streamingHttp): Promise<{ isWell: boolean; text: string }> {
  const { system } = simulate()
  const clock = { nowMs: () => 0, monotonicMs: () => 0, sleep: () => Promise.resolve() }
  const lines: string[] = []
  const transport = { http, streamingHttp: { ...dataNodes, close: () => Promise.resolve() } }
  const isWell = await runCheckExport({ ...system, clock }, configOf(flags), { transport, print: (line) => lines.push(line) })
  return { isWell, text: lines.join('\n') }
}

function hdfs(): { hdfs: string } {
  return { hdfs: `${standIn.url}/tailrace` }
}

describe('check-export', () => {
  test('walks create, read, rename and delete, and leaves nothing', async () => {
    const { isWell, text } = await check(hdfs())
    expect(text).toContain('the export can work')
    expect(isWell).toBe(true)
    for (const step of ['create a file', 'compare it', 'read it back', 'rename it', 'delete it']) expect(text).toContain(`ok     ${step}`)
    expect(text).toContain(`NameNode ${new URL(standIn.url).host} CREATE 200`)
    expect(text).toContain(`DataNode ${standIn.dataNodeAddress} CREATE 201`)
    expect([...standIn.files.keys()].filter((path) => path.includes('probe'))).toEqual([])
  })

  test('does the same in a folder', async () => {
    expect(await check({ exportTo: 'file:///srv/export' })).toMatchObject({ isWell: true })
  })

  test('a NameNode that nobody is at is named, with what to look at', async () => {
    const { isWell, text } = await check({ hdfs: 'http://127.0.0.1:1/tailrace' })
    expect(isWell).toBe(false)
    expect(text).toContain('FAILED look at the folder')
    expect(text).toContain('NameNode 127.0.0.1:1 GETFILESTATUS ECONNREFUSED')
    expect(text).toMatch(/what to do: nothing listens at 127\.0\.0\.1:1: is it the web port/)
  })

  test('a DataNode whose name is not known here is told apart from the NameNode', async () => {
    const unknown = Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' })
    const { isWell, text } = await check(hdfs(), {
      request: () => Promise.reject(new AppError('CANNOT_CONNECT', 'cannot connect', { cause: unknown })),
      close: () => Promise.resolve(),
    })
    expect(isWell).toBe(false)
    expect(text).toContain('ok     make a folder')
    expect(text).toContain('FAILED create a file')
    expect(text).toContain(`DataNode ${standIn.dataNodeAddress} CREATE ENOTFOUND`)
    expect(text).toContain('map it with hdfsDataNodes')
  })

  test('a redirect to where nobody allowed it says which setting lists DataNodes', async () => {
    const { text } = await check({ ...hdfs(), hdfsAllowedHosts: ['.example.org'] }, streamingHttp)
    expect(text).toContain('the export can work')
    standIn.onRequest = ({ op, leg }) => (op === 'CREATE' && leg === 'name-node' ? { kind: 'location', location: 'http://elsewhere.test:9864/webhdfs/v1/x?op=CREATE' } : undefined)
    const refused = await check({ ...hdfs(), hdfsAllowedHosts: ['.example.org'] })
    expect(refused.text).toContain('FAILED create a file')
    expect(refused.text).toContain('hdfsAllowedHosts')
  })

  test('a quota and safe mode are told as what they are', async () => {
    standIn.spaceQuotaBytes = 10
    expect((await check(hdfs())).text).toMatch(/FAILED create a file[^]*QuotaExceeded[^]*what to do: check permissions and quotas/)
    standIn.spaceQuotaBytes = Number.MAX_SAFE_INTEGER
    standIn.onRequest = ({ op }) => (op === 'RENAME' ? { kind: 'exception', exception: 'SafeModeException', message: 'in safe mode' } : undefined)
    expect((await check(hdfs())).text).toMatch(/FAILED rename it[^]*what to do: HDFS is in safe mode/)
    expect([...standIn.files.keys()].filter((path) => path.includes('probe'))).toEqual([])
  })

  test('says so where no export is configured', async () => {
    await expect(check({})).rejects.toMatchObject({ code: 'INVALID_CONFIG' })
  })
})
