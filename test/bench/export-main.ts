/**
 * `npm run bench:export -- [--runs N] [--segments N] [--mib N]`: what the export of a real collector process moves to a
 * real HDFS, beside Hadoop's own `FsShell -put` of the same files in the same run, in turn. The collector does more: it
 * checks each record batch, hashes, compares the checksum of HDFS, writes manifests and renames. The JVM's start is
 * taken off the rates of the shell and told apart; CPU seconds are those of whole processes. The third in the row is what
 * WebHDFS itself takes: the same files sent by this process, with nothing checked or journaled. It measures, it never judges.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { cpus, loadavg, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { parseArgs, promisify } from 'node:util'
import { encodeFrame, type JournalRecord } from '../../collector/export/journal-format.ts'
import { segmentFileKinds } from '../../collector/export/layout.ts'
import { fileSource } from '../../collector/export/local-file.ts'
import { openRemoteStore } from '../../collector/export/open-store.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { createHttpClient } from '../../shared/node/http-client.ts'
import { toOffset } from '../../shared/types.ts'
import { HdfsCluster } from '../real/hdfs-cluster.ts'
import { reasonToSkip } from '../real/java.ts'
import { NameNodeGate } from '../real/name-node-gate.ts'
import { freePort, until } from '../e2e/processes.ts'
import { costOf, endedChildrenCpuSeconds } from './process-cost.ts'

const run = promisify(execFile)
const MIB = 1024 * 1024
/** A body of lines may have 1 MiB. */
const LINES_PER_POST = 1000
const LINE_BYTES = 1000
const PARALLEL_POSTS = 4
const system = createNodeSystem({ logLevel: 'error' })
const user = userInfo().username

interface Collector {
  readonly child: ChildProcess
  readonly url: string
  /** Its log, one object a line. */
  readonly log: () => string
}

async function startCollector(data: string, args: readonly string[]): Promise<Collector> {
  const port = await freePort()
  const program = new URL('tailrace-collector.js', import.meta.url).pathname
  const child = spawn(process.execPath, [program, 'run', '--data', data, '--listen', `127.0.0.1:${port}`, ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => (log += text))
  const url = `http://127.0.0.1:${port}`
  await until(`the collector is ready: ${log}`, async () => (await fetch(`${url}/ready`)).ok)
  return { child, url, log: () => log }
}

async function stop({ child }: Collector): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}

/** One topic for each segment, each with one that is full and a small rest. Lines that hardly compress: it is about bytes. */
async function makeSegments(data: string, options: { segments: number; mib: number }): Promise<readonly string[]> {
  const collector = await startCollector(data, ['--partitions', '1', '--segment-bytes', `${options.mib}MiB`])
  const folderOf = (index: number): string => join(data, 'topics', `bench-${index}-0`)
  const logsOf = async (index: number): Promise<string[]> => (await readdir(folderOf(index))).filter((name) => name.endsWith('.log')).toSorted()
  for (let index = 0; index < options.segments; index += 1) {
    do {
      await Promise.all(Array.from({ length: PARALLEL_POSTS }, () => postLines(collector.url, `bench-${index}`)))
    } while ((await logsOf(index)).length < 2)
  }
  await stop(collector)
  const paths: string[] = []
  for (let index = 0; index < options.segments; index += 1) {
    const [first = ''] = await logsOf(index)
    paths.push(join(folderOf(index), first))
  }
  return paths
}

async function postLines(url: string, topic: string): Promise<void> {
  const text = system.random.bytes((LINES_PER_POST * LINE_BYTES * 3) / 4).toString('base64')
  const lines = Array.from({ length: LINES_PER_POST }, (_each, line) => `${text.slice(line * LINE_BYTES, (line + 1) * LINE_BYTES)}\n`).join('')
  const answer = await fetch(`${url}/v1/topics/${topic}/lines`, { method: 'POST', body: lines })
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
}

interface Exported {
  readonly seconds: number
  readonly peakRssMiB: number
  readonly cpuSeconds: number
}

/** From the moment that the store is known to be ours to the last record in the journal, by the collector's own log. */
async function exportAll(cluster: HdfsCluster, data: string, options: { root: string; parallel: number; segments: number; mib: number }): Promise<Exported> {
  await rm(join(data, 'export'), { recursive: true, force: true })
  await run('sync')
  const args = ['--partitions', '1', '--segment-bytes', `${options.mib}MiB`, '--segment-age', '24h', '--hdfs', cluster.url(options.root), '--hdfs-user', user]
  const collector = await startCollector(data, [...args, '--export-parallel', String(options.parallel)])
  const eventTimes = (event: string): number[] =>
    collector.log().split('\n').filter((line) => line.includes(`"event":"${event}"`)).map((line) => Date.parse((JSON.parse(line) as { time: string }).time))
  try {
    await until('all is exported', () => Promise.resolve(eventTimes('segment exported').length >= options.segments), 600_000)
    const { peakRssMiB, cpuSeconds } = await costOf(collector.child.pid ?? 0)
    return { seconds: (Math.max(...eventTimes('segment exported')) - (eventTimes('export is ready')[0] ?? Number.NaN)) / 1000, peakRssMiB, cpuSeconds }
  } finally {
    await stop(collector)
  }
}

interface ShellCost {
  readonly seconds: number
  readonly cpuSeconds: number
}

/** Of one run of `FsShell`, from its start to its end. Nothing else of ours ends meanwhile. */
async function timed(work: () => Promise<unknown>): Promise<ShellCost> {
  const [start, cpuBefore] = [performance.now(), await endedChildrenCpuSeconds()]
  await work()
  return { seconds: (performance.now() - start) / 1000, cpuSeconds: (await endedChildrenCpuSeconds()) - cpuBefore }
}

async function put(cluster: HdfsCluster, paths: readonly string[], options: { root: string; threads: number }): Promise<ShellCost> {
  await cluster.shell('-mkdir', '-p', options.root)
  await run('sync')
  // One block a file, as the collector asks for.
  const flags = ['-D', 'dfs.blocksize=536870912']
  const several = options.threads === 1 ? [] : ['-t', String(options.threads)]
  // All files are called alike but for their folder.
  const folders = [...new Set(paths.map((path) => path.slice(0, path.lastIndexOf('/'))))]
  if (folders.length !== paths.length) throw new Error('one segment a folder')
  return timed(() => cluster.shell(...flags, '-put', ...several, ...paths, options.root))
}

/** Plain uploads over WebHDFS, as `curl -T` would do them. */
async function sendPlainly(cluster: HdfsCluster, paths: readonly string[], options: { root: string; parallel: number }): Promise<number> {
  const store = openRemoteStore(cluster.url(options.root), { userName: user }, { system, http: createHttpClient(), streamingHttp: createHttpClient({ keepsConnections: false }) })
  await store.makeDirectories('')
  await run('sync')
  const started = performance.now()
  const queue = paths.map((path, index) => ({ path, name: `plain-${index}.log` }))
  const senders = Array.from({ length: options.parallel }, async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await store.put(next.name, fileSource(system.fs, next.path, (await stat(next.path)).size))
  })
  await Promise.all(senders)
  const seconds = (performance.now() - started) / 1000
  await store.close()
  return seconds
}

async function compare(cluster: HdfsCluster, folder: string, options: { runs: number; segments: number; mib: number }): Promise<void> {
  const data = join(folder, 'data')
  const made = await makeSegments(data, options)
  // Names of their own, for a shell that puts all of them into one folder.
  const links = join(folder, 'links')
  const paths: string[] = []
  for (const [index, path] of made.entries()) {
    await mkdir(join(links, String(index)), { recursive: true })
    const link = join(links, String(index), `segment-${index}.log`)
    await run('ln', [path, link])
    paths.push(link)
  }
  let bytes = 0
  for (const path of made) bytes += (await stat(path)).size
  print(`${made.length} segments, ${(bytes / MIB).toFixed(0)} MiB in all; one DataNode, replication 1`)
  const rate = (seconds: number): string => `${(bytes / MIB / seconds).toFixed(0).padStart(5)} MiB/s (${seconds.toFixed(2)} s)`
  const dataNodeCpu = async (): Promise<number> => (await costOf(cluster.pidOf('dn1'))).cpuSeconds
  for (let round = 1; round <= options.runs; round += 1) {
    const jvm = await timed(() => cluster.shell('-ls', '/'))
    print(`run ${round}: a JVM that does nothing else takes ${jvm.seconds.toFixed(2)} s, ${jvm.cpuSeconds.toFixed(1)} CPU s; load ${loadavg()[0]?.toFixed(1) ?? ''}`)
    for (const parallel of [1, 4]) {
      const root = `/bench-${round}-${parallel}`
      const before = await dataNodeCpu()
      const ours = await exportAll(cluster, data, { ...options, root, parallel })
      const between = await dataNodeCpu()
      print(`  collector, ${parallel} at a time    ${rate(ours.seconds)}, ${ours.cpuSeconds.toFixed(1)} CPU s and ${(between - before).toFixed(1)} of the DataNode, peak RSS ${ours.peakRssMiB.toFixed(0)} MiB`)
      const theirs = await put(cluster, paths, { root: `${root}-put`, threads: parallel })
      const after = await dataNodeCpu()
      print(`  FsShell -put${parallel === 1 ? '     ' : ` -t ${parallel}`}        ${rate(theirs.seconds - jvm.seconds)}, ${theirs.cpuSeconds.toFixed(1)} CPU s and ${(after - between).toFixed(1)} of the DataNode`)
      const plainSeconds = await sendPlainly(cluster, paths, { root: `${root}-plain`, parallel })
      print(`  plain PUT, ${parallel} at a time    ${rate(plainSeconds)}, and ${((await dataNodeCpu()) - after).toFixed(1)} CPU s of the DataNode`)
      await cluster.shell('-rm', '-r', '-skipTrash', root, `${root}-put`, `${root}-plain`)
    }
  }
}

/** A journal of 10,000 exported segments: how long a start takes, and what of the store is listed for it. */
async function startWithJournal(cluster: HdfsCluster, folder: string): Promise<void> {
  const segments = 10_000
  const data = join(folder, 'many')
  const first = await startCollector(data, ['--partitions', '1'])
  const { cpuSeconds: emptyCpuSeconds } = await costOf(first.child.pid ?? 0)
  for (let post = 0; post < segments / LINES_PER_POST; post += 1) await postLines(first.url, 'app')
  await stop(first)
  const sha256 = '0'.repeat(64)
  const files = segmentFileKinds.map((kind) => ({ kind, lengthBytes: 1, sha256 }))
  const boot: JournalRecord = { type: 'boot', boot: 1, nonce: 'bench' }
  const frames = Array.from({ length: segments }, (_each, index): JournalRecord => ({ type: 'finished', topic: 'app', partition: 0, baseOffset: toOffset(index), nextOffset: toOffset(index + 1), epoch: 1, isChecked: true, maxTimestampMs: 0, files })).map(encodeFrame)
  await mkdir(join(data, 'export'), { recursive: true })
  await writeFile(join(data, 'export/journal'), Buffer.concat([encodeFrame(boot), ...frames]))
  const gate = await NameNodeGate.open(new URL(cluster.url('')).origin)
  const began = performance.now()
  const collector = await startCollector(data, ['--partitions', '1', '--hdfs', `${gate.url}/many`, '--hdfs-user', user])
  const seconds = (performance.now() - began) / 1000
  const { cpuSeconds } = await costOf(collector.child.pid ?? 0)
  const { exports } = (await (await fetch(`${collector.url}/v1/exports`)).json()) as { exports: { exportedOffset: number }[] }
  print(`${segments} segments in the journal: ready after ${seconds.toFixed(2)} s, from the start of the process, with ${cpuSeconds.toFixed(1)} CPU s (an empty folder: ${emptyCpuSeconds.toFixed(1)}); exported offset ${exports[0]?.exportedOffset ?? 'none'}`)
  print(`  directories listed: ${[...new Set(gate.listed)].join(' ')}`)
  await stop(collector)
  await gate.close()
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { runs: { type: 'string', default: '3' }, segments: { type: 'string', default: '4' }, mib: { type: 'string', default: '256' } } })
  if (reasonToSkip('bench:export', ['java', 'javac', 'mvn']) !== undefined) return 1
  print(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown CPU'}, load ${loadavg()[0]?.toFixed(1) ?? ''}`)
  const folder = await mkdtemp(join(tmpdir(), 'tailrace-bench-'))
  const cluster = await HdfsCluster.start({ dataNodes: 1 })
  try {
    await compare(cluster, folder, { runs: Number(values.runs), segments: Number(values.segments), mib: Number(values.mib) })
    await startWithJournal(cluster, folder)
  } finally {
    await cluster.stop()
    await rm(folder, { recursive: true, force: true })
    await system.http.close()
  }
  return 0
}

process.exitCode = await main()
