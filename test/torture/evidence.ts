/** Reads what came out, in each of its forms, and has it judged: the topic log, the exported segments, `cat`, `verify`. */
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'
import { exportsResponseSchema, fetchHeaders, streamsResponseSchema, topicsResponseSchema, type StreamInfo } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'
import { Judge, type Verdict } from './judge.ts'
import { pause, runProgram, waitUntil } from './machine.ts'
import { TOPIC, type Rig } from './rig.ts'

const FETCH_BYTES = 8 * 1024 * 1024
/** Longer than the agent's own waits: unterminated lines (2 s here), a copy that is being made (30 s), retries (15 s). */
const SETTLE_MS = 50_000
/** Quiet after which it is worth to look whether all that can come has come. */
const PLATEAU_MS = 8000
/** A daemon that was just started takes seconds to ship its first byte on a busy machine. */
const CAUGHT_UP_MS = 4000
const CATCH_UP_MS = 30_000
const CAT_STREAMS_MAX = 24
const CAT_OTHERS_MAX = 12

export async function allStreams(rig: Rig): Promise<StreamInfo[]> {
  const found: StreamInfo[] = []
  for (let after = ''; ; ) {
    const page = v.parse(streamsResponseSchema, await getJson(`${rig.url}/v1/streams?${after}`))
    found.push(...page.streams)
    if (page.next === null) return found
    after = `after=${page.next}`
  }
}

/** Until as many bytes are stored as were written, or nothing has come for a while. Answers when the last byte came, if all did. */
export async function settle(rig: Rig, quietMs = SETTLE_MS): Promise<number | undefined> {
  let last = -1
  let lastChangeMs = performance.now()
  while (performance.now() - lastChangeMs < quietMs) {
    const stored = (await allStreams(rig)).reduce((sum, stream) => sum + stream.position, 0)
    if (stored !== last) lastChangeMs = performance.now()
    if (stored === last && stored >= rig.ledger.bytes && performance.now() - lastChangeMs > 2000) return lastChangeMs
    last = stored
    await pause(250)
  }
  return undefined
}

/** While writers go on: until the lag has not become smaller for a while. What is lost under E1 stays in it for ever. */
export async function catchUp(rig: Rig): Promise<void> {
  const beganMs = performance.now()
  let least = Number.POSITIVE_INFINITY
  let leastAtMs = beganMs
  while (performance.now() - beganMs < CATCH_UP_MS && performance.now() - leastAtMs < CAUGHT_UP_MS) {
    const lag = rig.ledger.bytes - (await storedBytes(rig))
    if (lag < least) {
      least = lag
      leastAtMs = performance.now()
    }
    await pause(250)
  }
}

/** 0 while the collector does not answer. */
async function storedBytes(rig: Rig): Promise<number> {
  try {
    return (await allStreams(rig)).reduce((sum, stream) => sum + stream.position, 0)
  } catch {
    // A collector that was just killed is on its way up: its lag is seen when it is there.
    return 0
  }
}

/** The verdict once all has come that can: what E1 excuses never does. */
export async function settleAndJudge(rig: Rig, zstd: Zstd): Promise<{ verdict: Verdict; judge: Judge }> {
  await settle(rig, PLATEAU_MS)
  const early = await judgeLog(rig, zstd)
  if (early.verdict.findings.length === 0) return early
  await settle(rig)
  return judgeLog(rig, zstd)
}

export async function judgeLog(rig: Rig, zstd: Zstd): Promise<{ verdict: Verdict; judge: Judge }> {
  const judge = new Judge({ view: 'topic log', ledger: rig.ledger, contents: rig.contents, zstd })
  const { topics } = v.parse(topicsResponseSchema, await getJson(`${rig.url}/v1/topics`))
  for (const { name, partitions } of topics) {
    for (const { partition, logStartOffset, highWatermark } of partitions) {
      for (let offset = logStartOffset; offset < highWatermark; ) {
        const answer = await fetch(`${rig.url}/v1/fetch?topic=${name}&partition=${partition}&offset=${offset}&maxBytes=${FETCH_BYTES}`)
        if (!answer.ok) throw new Error(`fetch answered ${answer.status}: ${await answer.text()}`)
        judge.take(`${name}-${partition}`, Buffer.from(await answer.arrayBuffer()))
        const next = Number(answer.headers.get(fetchHeaders.nextOffset))
        if (next <= offset) throw new Error(`fetch does not get beyond offset ${offset} of ${name}-${partition}`)
        offset = next
      }
    }
  }
  return { verdict: judge.verdict(), judge }
}

/** Restarts the collector so that every segment rolls and goes out, then reads nothing but the store. */
export async function judgeExport(rig: Rig, zstd: Zstd): Promise<Verdict> {
  await rig.collector.kill('SIGTERM')
  rig.collectorArgs = [...rig.collectorArgs, '--segment-age', '1s']
  rig.collector.start()
  const isOut = await waitUntil(async () => {
    const { exports } = v.parse(exportsResponseSchema, await getJson(`${rig.url}/v1/exports`))
    return exports.length > 0 && exports.every((partition) => partition.exportedOffset === partition.logEndOffset)
  }, 90_000)
  const judge = new Judge({ view: 'export', ledger: rig.ledger, contents: rig.contents, zstd })
  const root = join(rig.store, 'raw', TOPIC)
  for (const partition of existsSync(root) ? readdirSync(root).sort() : []) {
    for (const name of readdirSync(join(root, partition)).filter((each) => each.endsWith('.log')).sort()) {
      judge.take(`${TOPIC}-${partition}`, readFileSync(join(root, partition, name)))
    }
  }
  const verdict = judge.verdict()
  return isOut ? verdict : { ...verdict, findings: ['the export did not come to its end within 90 s', ...verdict.findings] }
}

/** `cat --all` of base paths, and `cat --stream` of some streams and of some files that came and went, against what the judge saw in the log. */
export async function judgeCat(rig: Rig, judge: Judge, files: readonly { file: string; path: string }[]): Promise<readonly string[]> {
  const findings: string[] = []
  const check = async (args: readonly string[], wanted: () => Iterable<Buffer>): Promise<void> => {
    const out = await runProgram(rig.programs.pathOf('tailrace'), ['cat', '--server', rig.url, ...args])
    const hash = createHash('sha256')
    for (const piece of wanted()) hash.update(piece)
    if (out.code !== 0 || createHash('sha256').update(out.stdout).digest('hex') !== hash.digest('hex')) {
      findings.push(`cat ${args.join(' ')} (exit ${out.code}, ${out.stdout.length} bytes) is not what was written: ${out.stderr.slice(0, 300)}`)
    }
  }
  for (const { file, path } of files) {
    const streams = judge.streamsOf(file)
    if (streams.length > 0) await check(['--all', `${hostname()}:${path}`], () => streams.map(({ incarnation, position }) => rig.contents.open(incarnation).take(position)))
  }
  const some = files.flatMap(({ file }) => judge.streamsOf(file).slice(-Math.ceil(CAT_STREAMS_MAX / files.length)))
  const others = judge.files.filter((name) => files.every(({ file }) => file !== name))
  const step = Math.max(1, Math.ceil(others.length / CAT_OTHERS_MAX))
  const sampled = others.filter((_name, index) => index % step === 0).flatMap((name) => judge.streamsOf(name))
  for (const { id, incarnation, position } of [...some, ...sampled]) await check(['--stream', id], () => [rig.contents.open(incarnation).take(position)])
  return findings
}

export async function judgeVerify(rig: Rig): Promise<readonly string[]> {
  const out = await runProgram(rig.programs.pathOf('tailrace'), ['verify', '--server', rig.url])
  if (out.code === 0) return []
  const complaints = `${out.stdout.toString()}${out.stderr}`.split('\n').filter((line) => line !== '' && !line.startsWith('ok '))
  return [`verify exits ${out.code}: ${complaints.join('\n  ').slice(0, 3000)}`]
}

async function getJson(url: string): Promise<unknown> {
  const answer = await fetch(url)
  if (!answer.ok) throw new Error(`${url} answered ${answer.status}: ${await answer.text()}`)
  return answer.json()
}
