/**
 * The collector as its user runs it, killed -9 after each record that its export journal knows, and between a rename
 * and its record. After all of that a real HDFS holds every offset once, byte for byte.
 */
import { once } from 'node:events'
import { readFileSync, watch } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import * as v from 'valibot'
import { applyRecord, decodeFrame, emptyState, type ExportedSegment, type ExportState, type FileProgress } from '../../collector/export/journal-format.ts'
import { segmentFileKinds } from '../../collector/export/layout.ts'
import { exportsResponseSchema } from '../../shared/wire.ts'
import { freePort, start, startCollector, temporaryFolder, until, type Running } from '../e2e/processes.ts'
import { openStore, sweepTomorrow, system } from './exporting.ts'
import { HdfsCluster } from './hdfs-cluster.ts'
import { reasonToSkip } from './java.ts'
import { NameNodeGate, type Passage } from './name-node-gate.ts'
import { expectOnceOnStore, localLogs } from './store-judge.ts'

const reason = reasonToSkip('collector killed while it exports to HDFS', ['java', 'javac', 'mvn'])
const hdfsUser = userInfo().username
/** Some more segments than there are files to catch in their uploads. */
const sizes = ['--partitions', '1', '--segment-bytes', '1MiB']

function journalOf(data: string): ExportState {
  const state = emptyState()
  const bytes = readFileSync(join(data, 'export/journal'))
  for (let frame = decodeFrame(bytes, 0); frame !== undefined; frame = decodeFrame(bytes, frame.end)) applyRecord(state, frame.record)
  return state
}

/** Where to strike, as the journal and the next request or answer show it. */
interface Moment {
  readonly name: string
  readonly isNow: (segments: Segments, passage: Passage) => boolean
}

interface Segments {
  readonly all: readonly ExportedSegment[]
  /** The one that was planned last. */
  readonly newest: ExportedSegment | undefined
}

function fileIs(segment: ExportedSegment | undefined, kind: (typeof segmentFileKinds)[number], progress: FileProgress['kind']): boolean {
  return segment?.progress.kind === 'encoded' && segment.progress.progress.get(kind)?.kind === progress
}

/**
 * In the order in which a segment meets them; each life of the collector goes on where the last one was killed. Files are
 * uploaded side by side, so the next one may be past its upload when a life is killed for the first one's: then the next
 * segment's is waited for.
 */
const moments: readonly Moment[] = [
  { name: 'encoded', isNow: ({ newest }, { stage }) => stage === 'request' && newest?.progress.kind === 'encoded' && newest.progress.progress.size === 0 },
  ...segmentFileKinds.map((kind): Moment => ({ name: `uploaded ${kind}`, isNow: ({ newest }, { stage }) => stage === 'request' && fileIs(newest, kind, 'uploaded') })),
  ...segmentFileKinds.flatMap((kind): Moment[] => [
    { name: `verified ${kind}`, isNow: ({ newest }, { stage }) => stage === 'request' && fileIs(newest, kind, 'verified') },
    { name: `renamed ${kind}, and nobody was told`, isNow: ({ newest }, { stage, op }) => stage === 'answer' && op === 'RENAME' && fileIs(newest, kind, 'verified') },
    { name: `renamed ${kind}`, isNow: ({ newest }, { stage }) => stage === 'request' && fileIs(newest, kind, 'renamed') },
  ]),
  { name: 'recorded', isNow: ({ all }, { stage }) => stage === 'request' && all.some(({ progress }) => progress.kind === 'recorded' && !progress.isChecked) },
  { name: 'checked', isNow: ({ all }, { stage }) => stage === 'request' && all.some(({ progress }) => progress.kind === 'recorded' && progress.isChecked) },
]

describe.skipIf(reason !== undefined)('a collector that is killed while it exports to a real HDFS', () => {
  let cluster: HdfsCluster
  let gate: NameNodeGate
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  let data: string
  let exporting: readonly string[]

  beforeAll(async () => {
    cluster = await HdfsCluster.start({ dataNodes: 2 })
    gate = await NameNodeGate.open(new URL(cluster.url('')).origin)
    folder = await temporaryFolder()
    data = join(folder.path, 'data')
    exporting = [...sizes, '--hdfs', `${gate.url}/killed`, '--hdfs-user', hdfsUser, '--log-level', 'warn']
    const collector = await startCollector({ data, args: sizes })
    for (let post = 0; post < 24; post += 1) await postLines(collector.url)
    await collector.kill('SIGTERM')
  })
  afterAll(async () => {
    await gate.close()
    await folder.remove()
    await cluster.stop()
    await system.http.close()
  })

  async function postLines(url: string): Promise<void> {
    const lines = Array.from({ length: 1000 }, () => `${system.random.bytes(500).toString('hex')}\n`).join('')
    const answer = await fetch(`${url}/v1/topics/app/lines`, { method: 'POST', body: lines })
    expect(answer.status, await answer.text()).toBe(200)
  }

  async function startExporting(): Promise<Running> {
    return start('tailrace-collector', ['run', '--data', data, '--listen', `127.0.0.1:${await freePort()}`, ...exporting])
  }

  async function died(running: Running): Promise<void> {
    const { child } = running
    if (child.exitCode !== null || child.signalCode !== null) return
    await once(child, 'exit', { signal: AbortSignal.timeout(60_000) }).catch((cause: unknown) => {
      throw new Error(`the collector is still there and said: ${running.log()}`, { cause })
    })
  }

  const segmentsOf = (state: ExportState): Segments => {
    const all = [...(state.partitions.get('app-0')?.values() ?? [])]
    return { all, newest: all.at(-1) }
  }

  /** Kills it at the gate, holding what `isNow` recognised. */
  async function killWhen(isNow: (state: ExportState, passage: Passage) => boolean): Promise<void> {
    let isStruck = false
    const victim = await startExporting()
    gate.mayPass = (passage) => {
      if (isStruck || !isNow(journalOf(data), passage)) return !isStruck
      isStruck = true
      victim.child.kill('SIGKILL')
      return false
    }
    await died(victim)
    gate.mayPass = () => true
    expect(isStruck, victim.log()).toBe(true)
  }

  /** There is no request between `planned` and `encoded`: the journal itself is watched, and reading the segment takes longer. */
  async function killWhenPlanned(): Promise<void> {
    const victim = await startExporting()
    const watcher = watch(join(data, 'export'), () => {
      if (segmentsOf(journalOf(data)).newest?.progress.kind === 'planned') victim.child.kill('SIGKILL')
    })
    await died(victim)
    watcher.close()
    expect(segmentsOf(journalOf(data)).newest?.progress.kind).toBe('planned')
  }

  test('after each record of its journal, it goes on from there, and every offset comes out once', async () => {
    await killWhen((state, { stage, op }) => stage === 'request' && op === 'LISTSTATUS' && state.boot > 0)
    await killWhenPlanned()
    for (const { name, isNow } of moments) {
      await killWhen((state, passage) => isNow(segmentsOf(state), passage)).catch((cause: unknown) => {
        throw new Error(`at "${name}"`, { cause })
      })
    }
    const collector = await startCollector({ data, args: exporting })
    // Until the store has answered the first time this is refused.
    const answer = await until('all is exported', async () => {
      const response = await fetch(`${collector.url}/v1/exports`, { method: 'POST' })
      return response.ok ? response : undefined
    })
    const { exports } = v.parse(exportsResponseSchema, await answer.json())
    expect(exports).toMatchObject([{ state: 'idle', lagSegments: 0, exportedOffset: 24_000, logEndOffset: 24_000 }])
    await collector.kill('SIGTERM')
    const store = openStore(cluster.url('/killed'), { userName: hdfsUser })
    await sweepTomorrow(store)
    expect(await store.list('_tmp')).toEqual([])
    expect(await store.list('_quarantine')).toEqual([])
    const logs = await localLogs(data)
    expect(logs.length).toBeGreaterThan(2)
    await expectOnceOnStore(cluster, { root: '/killed', logs, nextOffset: 24_000 })
    await store.close()
  })

  test('what was written since comes out by its age, without anybody asking and without a look at what was exported before', async () => {
    gate.listed = []
    const collector = await startCollector({ data, args: [...exporting, '--segment-age', '1s'] })
    await postLines(collector.url)
    await until('the quiet topic is exported', async () => {
      const { exports } = v.parse(exportsResponseSchema, await (await fetch(`${collector.url}/v1/exports`)).json())
      return exports[0]?.exportedOffset === 25_000
    })
    await collector.kill('SIGTERM')
    expect(gate.listed).not.toEqual([])
    expect(gate.listed.filter((path) => !path.startsWith('/killed/_'))).toEqual([])
    await expectOnceOnStore(cluster, { root: '/killed', logs: await localLogs(data), nextOffset: 25_000 })
  })
})
