/** Damage that `tailrace verify` has to find and to name, each done to an idle collector's folder, store or source. */
import { appendFileSync, closeSync, cpSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, statSync, unlinkSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { exportsResponseSchema } from '../../shared/wire.ts'
import { allStreams } from './evidence.ts'
import { runProgram, waitUntil, type Output } from './machine.ts'
import { Rig, TOPIC } from './rig.ts'

interface Damage {
  readonly name: string
  /** Answers what the report has to name. */
  readonly act: (rig: Rig) => RegExp
  /** Done while the collector runs: at its start it would mend this by itself. */
  readonly isWhileRunning?: boolean
}

const LINES = 40_000

const damages: readonly Damage[] = [
  {
    name: 'a byte flipped in a sealed segment',
    act: (rig) => {
      const segment = sealedSegments(rig)[0] ?? ''
      const descriptor = openSync(segment, 'r+')
      writeSync(descriptor, Buffer.from([0xa5, 0x5a, 0xa5]), 0, 3, Math.floor(statSync(segment).size / 2))
      closeSync(descriptor)
      return /DIFFERS.*app\.log[^]*offsets 0 to \d+/
    },
  },
  {
    name: 'a sealed segment removed',
    act: (rig) => {
      const segment = sealedSegments(rig)[1] ?? ''
      for (const suffix of ['log', 'index', 'timeindex', 'meta']) rmSync(segment.replace(/log$/, suffix), { force: true })
      return new RegExp(`DIFFERS.*app\\.log[^]*offsets ${Number(segment.slice(-24, -4))} to \\d+`)
    },
  },
  {
    name: 'a source file changed after it was shipped',
    act: (rig) => {
      const descriptor = openSync(sourceOf(rig), 'r+')
      writeSync(descriptor, 'CHANGED', 100_000)
      closeSync(descriptor)
      return /DIFFERS.*app\.log[^]*source: bytes 100000 to/
    },
  },
  {
    name: 'an exported file cut short',
    isWhileRunning: true,
    act: (rig) => {
      const folder = join(rig.store, 'raw', TOPIC)
      const partition = readdirSync(folder).find((name) => readdirSync(join(folder, name)).some((file) => file.endsWith('.log'))) ?? ''
      const name = readdirSync(join(folder, partition)).filter((file) => file.endsWith('.log')).sort()[0] ?? ''
      truncateSync(join(folder, partition, name), statSync(join(folder, partition, name)).size - 100)
      return new RegExp(name.slice(0, 20))
    },
  },
]

export async function damageStory(seed: number): Promise<readonly string[]> {
  const rig = await Rig.open({ seed, collectorArgs: ['--segment-bytes', '256KiB', '--partitions', '1'] })
  let isClean = false
  try {
    mkdirSync(rig.logs)
    const content = rig.contents.open({ file: 'app', number: 1, flavour: 'plain' })
    for (let line = 0; line < LINES; line += 1000) appendFileSync(sourceOf(rig), Buffer.concat(Array.from({ length: 1000 }, () => content.nextLine())))
    await start(rig)
    const agent = rig.addAgent('agent', [sourceOf(rig)])
    agent.start()
    const { size } = statSync(sourceOf(rig))
    if (!(await waitUntil(async () => (await allStreams(rig))[0]?.position === size, 60_000))) return ['the file was not shipped']
    await agent.kill('SIGTERM')
    const isOut = await waitUntil(async () => {
      const { exports } = v.parse(exportsResponseSchema, await (await fetch(`${rig.url}/v1/exports`)).json())
      return exports.every(({ lagSegments }) => lagSegments === 0)
    }, 60_000)
    if (!isOut) return ['the sealed segments were not exported']
    const healthy = await verify(rig)
    const findings = healthy.code === 0 ? [] : [`verify of what is whole exits ${healthy.code}: ${textOf(healthy)}`]
    await rig.collector.kill('SIGTERM')
    for (const damage of damages) findings.push(...(await inflict(rig, damage)))
    isClean = findings.length === 0
    return findings
  } finally {
    await rig.close({ keepFolder: !isClean })
  }
}

/** On a copy of everything, which is thrown away afterwards. */
async function inflict(rig: Rig, { name, act, isWhileRunning }: Damage): Promise<string[]> {
  const whole = join(rig.work, 'whole')
  mkdirSync(whole)
  for (const folder of [rig.data, rig.store, rig.logs]) {
    renameSync(folder, join(whole, folder.split('/').at(-1) ?? ''))
    cpSync(join(whole, folder.split('/').at(-1) ?? ''), folder, { recursive: true, preserveTimestamps: true })
  }
  // The copied source is another inode: the original is put back in place.
  unlinkSync(sourceOf(rig))
  cpSync(join(whole, 'logs', 'app.log'), join(whole, 'app.copy'))
  renameSync(join(whole, 'logs', 'app.log'), sourceOf(rig))
  try {
    let expected = isWhileRunning === true ? undefined : act(rig)
    await start(rig)
    expected ??= act(rig)
    const report = await verify(rig)
    if (report.code === 1 && expected.test(textOf(report))) return []
    return [`${name}: verify exits ${report.code} and says: ${textOf(report).slice(0, 1500)}`]
  } finally {
    await rig.collector.kill('SIGTERM')
    restore(rig, whole)
  }
}

function restore(rig: Rig, whole: string): void {
  // Same inode, bytes as they were.
  const source = sourceOf(rig)
  writeFileSync(source, readFileSync(join(whole, 'app.copy')))
  renameSync(source, join(whole, 'logs', 'app.log'))
  for (const folder of [rig.data, rig.store, rig.logs]) {
    rmSync(folder, { recursive: true })
    renameSync(join(whole, folder.split('/').at(-1) ?? ''), folder)
  }
  rmSync(whole, { recursive: true })
}

async function start(rig: Rig): Promise<void> {
  rig.collector.start()
  if (!(await waitUntil(() => rig.isReady(), 30_000))) throw new Error(`the collector does not start: ${rig.collector.logLines().last.join('\n')}`)
}

function verify(rig: Rig): Promise<Output> {
  return runProgram(rig.programs.pathOf('tailrace'), ['verify', '--server', rig.url])
}

function textOf(output: Output): string {
  return output.stdout.toString() + output.stderr
}

function sourceOf(rig: Rig): string {
  return join(rig.logs, 'app.log')
}

function sealedSegments(rig: Rig): string[] {
  const folder = join(rig.data, 'topics', `${TOPIC}-0`)
  const segments = readdirSync(folder).filter((name) => name.endsWith('.log')).sort()
  return segments.slice(0, -1).map((name) => join(folder, name))
}
