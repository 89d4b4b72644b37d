/**
 * `npm run demo`: the whole main job on this machine, with the real programs. A collector on 127.0.0.1 with a fresh data
 * folder, an agent that tails the logs under /var/log and one log that the demo keeps writing, export to a local folder,
 * then a query, a follow, a `cat` that is compared byte for byte and a `verify`. Each command is printed as a user would
 * type it. `--once` ends by itself: 0 when everything was equal, 1 when anything differed.
 */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { appendFile, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'
import { exportsResponseSchema, streamsResponseSchema, type ExportInfo, type StreamInfo } from '../../shared/wire.ts'
import { delay, freePort, Programs, waitFor } from './programs.ts'

const SYSTEM_LOGS = ['/var/log/**/*.log', '/var/log/*log', '/var/log/syslog', '/var/log/messages']
const WRITE_EVERY_MS = 200
const SEGMENT_AGE = '5s'

interface Demo {
  readonly folder: string
  readonly url: string
  readonly ownLog: string
  readonly programs: Programs
}

async function main(): Promise<number> {
  const once = process.argv.includes('--once')
  const stop = new AbortController()
  process.once('SIGINT', () => stop.abort())
  process.once('SIGTERM', () => stop.abort())
  const folder = await mkdtemp(join(tmpdir(), 'tailrace-demo-'))
  const programs = new Programs(stop.signal)
  const demo: Demo = { folder, url: `http://127.0.0.1:${await freePort()}`, ownLog: join(folder, 'logs', 'demo.log'), programs }
  try {
    const differences = await show(demo, stop.signal)
    if (!once && !stop.signal.aborted) await followUntilStopped(demo, stop.signal)
    return differences === 0 ? 0 : 1
  } catch (error) {
    if (stop.signal.aborted) return 0
    say(`the demo failed: ${error instanceof Error ? error.message : String(error)}`)
    return 1
  } finally {
    stop.abort()
    await programs.stopAll()
    await rm(folder, { recursive: true, force: true })
    say('stopped; everything the demo wrote is removed')
  }
}

async function show(demo: Demo, signal: AbortSignal): Promise<number> {
  const { folder, url, ownLog, programs } = demo
  await mkdir(join(folder, 'logs'))
  const exported = join(folder, 'warehouse')
  title('A collector, with export of sealed segments to a local folder (the same exporter that writes to HDFS)')
  programs.start('tailrace-collector', ['run', '--data', join(folder, 'data'), '--listen', new URL(url).host, '--segment-age', SEGMENT_AGE, '--export-to', `file://${exported}`])
  await waitFor('the collector is ready', signal, async () => (await fetch(`${url}/ready`)).ok)

  title('An agent that tails what can be read under /var/log, and a log that this demo keeps writing')
  keepWriting(ownLog, signal)
  programs.start('tailrace-agent', ['run', '--collector', url, '--topic', 'system', '--admin', 'off', ...SYSTEM_LOGS])
  programs.start('tailrace-agent', ['run', '--collector', url, '--topic', 'demo', '--agent-id', `${hostname()}-demo`, '--admin', 'off', join(folder, 'logs', '*.log')])
  await waitFor('the first lines are stored', signal, async () => (await streams(url)).some((stream) => stream.topic === 'demo' && stream.records > 10))
  await settled(url, signal)
  await programs.show('tailrace', ['streams', '--server', url])

  title('Find a line')
  await programs.show('tailrace', ['query', '--server', url, '-t', 'demo', '-n', '5', 'order=1'])

  title('Follow a log for three seconds')
  await programs.show('tailrace', ['tail', '--server', url, '-t', 'demo', '-n', '2'], { stopAfterMs: 3_000 })

  title('Rebuild each file from the log and compare it with the source, byte for byte')
  const differences = await compareAll(demo)

  title('Check all of it: source, log and exported segments')
  await waitFor('a segment is exported', signal, async () => (await listExports(url)).some((partition) => partition.exportedOffset > 0))
  const verified = await programs.show('tailrace', ['verify', '--server', url])
  await programs.show('tailrace', ['exports', '--server', url])
  const failed = differences + (verified === 0 ? 0 : 1)
  title(failed === 0 ? 'Everything is equal.' : `${failed} differences: see above.`)
  return failed
}

/** Compares as much of each source file as the collector has: a log may have grown in the meantime. */
async function compareAll(demo: Demo): Promise<number> {
  let differences = 0
  for (const stream of (await streams(demo.url)).filter((one) => one.position > 0)) {
    const stored = await demo.programs.hashOutput('tailrace', ['cat', '--server', demo.url, '--stream', stream.id], stream.position)
    const source = await hashPrefix(stream.path, stream.position)
    const equal = stored === source
    if (!equal) differences += 1
    say(`  ${equal ? 'equal    ' : 'DIFFERENT'}  sha256 ${source.slice(0, 16)}…  ${String(stream.position).padStart(10)} bytes  ${stream.path}`)
  }
  return differences
}

async function followUntilStopped(demo: Demo, signal: AbortSignal): Promise<void> {
  title(`Still running at ${demo.url} — try it from another terminal, Ctrl-C here ends it`)
  say(`  export TAILRACE_SERVER=${demo.url}\n  npx tailrace query -n 10\n  curl -s ${demo.url}/v1/topics\n`)
  await demo.programs.show('tailrace', ['tail', '--server', demo.url, '-t', 'demo', '-n', '0'])
  while (!signal.aborted) await delay(60_000, signal)
}

/** Positions stand still for a moment: what was there at the start is shipped. */
async function settled(url: string, signal: AbortSignal): Promise<void> {
  let last = -1
  await waitFor('the backlog is shipped', signal, async () => {
    const now = (await streams(url)).filter((stream) => stream.topic === 'system').reduce((sum, stream) => sum + stream.position, 0)
    const still = now === last
    last = now
    await delay(700, signal)
    return still
  })
}

async function streams(url: string): Promise<StreamInfo[]> {
  return v.parse(streamsResponseSchema, await (await fetch(`${url}/v1/streams`)).json()).streams
}

async function listExports(url: string): Promise<ExportInfo[]> {
  return v.parse(exportsResponseSchema, await (await fetch(`${url}/v1/exports`)).json()).exports
}

function keepWriting(path: string, signal: AbortSignal): void {
  const write = async (): Promise<void> => {
    for (let order = 1; !signal.aborted; order += 1) {
      await appendFile(path, `${new Date().toISOString()} level=${order % 10 === 0 ? 'warn' : 'info'} order=${order} amount=${(order * 37) % 1000}\n`)
      await delay(WRITE_EVERY_MS, signal)
    }
  }
  write().catch((error: unknown) => {
    if (!signal.aborted) say(`the demo log can't be written: ${String(error)}`)
  })
}

async function hashPrefix(path: string, bytes: number): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path, { start: 0, end: bytes - 1 })) hash.update(piece as Buffer)
  return hash.digest('hex')
}

function title(text: string): void {
  say(`\n── ${text}`)
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

process.exitCode = await main()
