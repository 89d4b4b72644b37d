/**
 * The data folder is lost while an agent follows a file: the collector takes no lines until it is restored from its
 * export, and after it the file comes back byte for byte, with no exported offset used twice. With a folder and with a
 * WebHDFS.
 */
import { randomBytes } from 'node:crypto'
import { appendFile, mkdir, readdir, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'
import { afterEach, describe, expect, test } from 'vitest'
import { topicsResponseSchema } from '../../shared/wire.ts'
import { WebHdfsStandIn } from '../webhdfs-stand-in.ts'
import { freePort, getJson, run, sha256Of, sha256OfFile, start, startCollector, temporaryFolder, until, type Running } from './processes.ts'

const cleanUps: Array<() => Promise<unknown>> = []

afterEach(async () => {
  for (const cleanUp of cleanUps.splice(0).reverse()) await cleanUp()
})

function stopLater<R extends Running>(running: R): R {
  cleanUps.push(() => running.kill('SIGKILL'))
  return running
}

interface ExportFolder {
  readonly flags: readonly string[]
  /** Names of all files below `raw`. */
  names(): Promise<readonly string[]>
}

async function localFolder(work: string): Promise<ExportFolder> {
  const root = join(work, 'store')
  await mkdir(root)
  return { flags: ['--export-to', `file://${root}`], names: () => readdir(join(root, 'raw'), { recursive: true }) }
}

async function webHdfs(): Promise<ExportFolder> {
  const standIn = await WebHdfsStandIn.start()
  cleanUps.push(() => standIn.close())
  return { flags: ['--hdfs', `${standIn.url}/tailrace`], names: () => Promise.resolve([...standIn.files.keys()].filter((path) => path.startsWith('/tailrace/raw/'))) }
}

async function recordsStored(url: string): Promise<number> {
  const { topics } = v.parse(topicsResponseSchema, await getJson(`${url}/v1/topics`))
  return topics.flatMap((topic) => topic.partitions).reduce((sum, { highWatermark }) => sum + highWatermark, 0)
}

/** Offset ranges by partition folder, from the names of the manifests. */
function exportedRanges(names: readonly string[]): Map<string, { base: number; next: number; epoch: number }[]> {
  const ranges = new Map<string, { base: number; next: number; epoch: number }[]>()
  for (const name of names) {
    const [, folder = '', base, next, epoch] = /(p=\d+)\/(\d{20})-(\d{20})-(\d+)\.manifest\.json$/.exec(name) ?? []
    if (base === undefined) continue
    ranges.set(folder, [...(ranges.get(folder) ?? []), { base: Number(base), next: Number(next), epoch: Number(epoch) }])
  }
  for (const each of ranges.values()) each.sort((a, b) => a.base - b.base)
  return ranges
}

describe.each([{ name: 'a folder', open: localFolder }, { name: 'a WebHDFS', open: webHdfs }])('a collector that exports to $name', ({ open }) => {
  test('and loses its data folder takes no lines until it is restored, and then stores nothing twice', async () => {
    const folder = await temporaryFolder()
    cleanUps.push(folder.remove)
    const work = folder.path
    const { flags, names } = await open(work)
    const data = join(work, 'data')
    const log = join(work, 'app.log')
    const port = await freePort()
    const args = [...flags, '--segment-bytes', '64KiB']
    let lines = 0
    const write = async (count: number): Promise<void> => {
      lines += count
      await appendFile(log, Array.from({ length: count }, () => `${randomBytes(60).toString('hex')}\n`).join(''))
    }
    await write(3000)
    const before = stopLater(await startCollector({ data, port, args }))
    const agent = stopLater(start('tailrace-agent', ['run', '--collector', before.url, '--topic', 'app', '--admin', 'off', log]))
    await until('all of it is stored', async () => (await recordsStored(before.url)) === lines)
    expect((await fetch(`${before.url}/v1/exports`, { method: 'POST' })).status).toBe(200)
    const exported = exportedRanges(await names())
    expect(Math.max(...[...exported.values()].flat().map(({ next }) => next))).toBe(lines)
    await write(500)
    await until('more is stored, and not exported', async () => (await recordsStored(before.url)) === lines)
    await before.kill('SIGKILL')
    await rm(data, { recursive: true })

    const empty = stopLater(start('tailrace-collector', ['run', '--data', data, '--listen', `127.0.0.1:${port}`, ...args]))
    const ready = await until('the new folder is refused', async () => {
      const answer = await fetch(`${before.url}/ready`)
      return answer.status === 503 && answer.text()
    })
    expect(ready).toContain('RESTORE_REQUIRED')
    const refused = await fetch(`${before.url}/v1/topics/app/lines`, { method: 'POST', body: 'a line\n' })
    expect([refused.status, await refused.text()]).toEqual([503, expect.stringContaining('tailrace-collector restore')])
    const status = await run('tailrace', ['status', '--server', before.url])
    expect([status.code, status.stdout.toString()]).toEqual([3, expect.stringContaining('tailrace-collector restore')])
    expect(await empty.kill('SIGTERM')).toBe(0)

    const restore = ['restore', '--data', data, ...args]
    const tooEarly = await run('tailrace-collector', restore)
    expect([tooEarly.code, tooEarly.stderr]).toEqual([1, expect.stringContaining('--take-over')])
    const restored = await run('tailrace-collector', [...restore, '--take-over'])
    expect([restored.code, restored.stderr], restored.stdout.toString()).toEqual([0, ''])

    const after = stopLater(await startCollector({ data, port, args }))
    await write(500)
    await until('all of it is stored again', async () => (await recordsStored(after.url)) === lines)
    expect((await fetch(`${after.url}/v1/exports`, { method: 'POST' })).status).toBe(200)
    const cat = await run('tailrace', ['cat', '--server', after.url, `${hostname()}:${log}`])
    expect(sha256Of(cat.stdout)).toBe(await sha256OfFile(log))
    const verify = await run('tailrace', ['verify', '--deep', '--server', after.url])
    expect([verify.code, verify.stdout.toString() + verify.stderr]).toEqual([0, expect.stringContaining('no difference')])
    const all = exportedRanges(await names())
    for (const [partition, ranges] of all) {
      ranges.forEach(({ base }, index) => expect(base, partition).toBe(ranges[index - 1]?.next ?? 0))
    }
    expect(Math.max(...[...all.values()].flat().map(({ next }) => next))).toBe(lines)
    expect(new Set([...all.values()].flat().map(({ epoch }) => epoch))).toEqual(new Set([1, 2]))
    expect(await agent.kill('SIGTERM')).toBe(0)
  }, 180_000)
})
