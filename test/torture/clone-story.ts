/**
 * A cloned machine: one file system is copied block by block, so that both have a log file with the same inode, birth
 * time and beginning. Both agents call themselves the same. No line of either may be lost or mixed into the other's
 * stream, and somebody has to be told.
 */
import { spawnSync } from 'node:child_process'
import { appendFileSync, copyFileSync, mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { allStreams } from './evidence.ts'
import type { ProxyFault } from './faulty-proxy.ts'
import { pause, runProgram, waitUntil } from './machine.ts'
import { Rig } from './rig.ts'
import { run } from './small-disk.ts'

export async function cloneStory(seed: number): Promise<readonly string[]> {
  // Lost answers make both say hello again: two that take turns are told from one that restarts.
  let requests = 0
  const chooseFault = ({ path }: { path: string }): ProxyFault | undefined => (path === '/v1/batches' && (requests += 1) % 7 === 0 ? 'swallow answer' : undefined)
  const rig = await Rig.open({ seed, hasExport: false, chooseFault })
  const mounts = ['a', 'b'].map((name) => join(rig.work, `machine-${name}`))
  const mounted: string[] = []
  rig.atExit.push(() => mounted.forEach((mount) => void spawnSync('umount', ['-l', mount])))
  let isClean = false
  try {
    const skipped = cloneMachines(rig.work, mounts, mounted)
    if (skipped !== undefined) return [`SKIPPED, no file system to clone (${skipped})`]
    rig.collector.start()
    await waitUntil(() => rig.isReady(), 30_000)
    for (const [index, mount] of mounts.entries()) rig.addAgent(`agent-${index}`, [join(mount, 'app.log')], ['--agent-id', 'web']).start()
    for (let round = 0; round < 30; round += 1) {
      for (const [index, mount] of mounts.entries()) appendFileSync(join(mount, 'app.log'), block(`machine ${index} round ${round}`))
      if (round % 10 === 5) rig.proxy.cutAll()
      await pause(100 + rig.random() * 200)
    }
    const findings = await judgeClones(rig, [0, 1].map((index) => wholeOf(index)))
    isClean = findings.length === 0
    return findings
  } finally {
    await rig.close({ keepFolder: true })
    for (const mount of mounted) run('umount', [mount])
    if (isClean) await rig.close({ keepFolder: false })
  }
}

/** Answers why it can't be done here. */
function cloneMachines(work: string, mounts: readonly string[], mounted: string[]): string | undefined {
  const images = mounts.map((mount) => `${mount}.img`)
  const [first, second] = images
  const [firstMount] = mounts
  if (first === undefined || second === undefined || firstMount === undefined) return 'two machines are needed'
  try {
    for (const mount of mounts) mkdirSync(mount)
    writeFileSync(first, '')
    truncateSync(first, 32 * 1024 * 1024)
    run('mkfs.ext4', ['-q', first])
    run('mount', ['-o', 'loop', first, firstMount])
    mounted.push(firstMount)
    writeFileSync(join(firstMount, 'app.log'), block('before'))
    run('umount', [firstMount])
    mounted.pop()
    copyFileSync(first, second)
    for (const [index, mount] of mounts.entries()) {
      run('mount', ['-o', 'loop', images[index] ?? '', mount])
      mounted.push(mount)
    }
    return undefined
  } catch (error) {
    return `${work}: ${error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error)}`
  }
}

async function judgeClones(rig: Rig, wholes: readonly string[]): Promise<string[]> {
  const findings: string[] = []
  const contents = async (): Promise<string[]> => {
    const streams = await allStreams(rig)
    return Promise.all(
      streams.map(async ({ id }) => (await runProgram(rig.programs.pathOf('tailrace'), ['cat', '--server', rig.url, '--stream', id])).stdout.toString('latin1')),
    )
  }
  const isThere = await waitUntil(async () => {
    const stored = await contents()
    return wholes.every((whole) => stored.includes(whole))
  }, 90_000)
  const stored = await contents()
  if (!isThere) for (const [index, whole] of wholes.entries()) if (!stored.includes(whole)) findings.push(`machine ${index}: no stream holds its file whole`)
  for (const text of stored) if (!wholes.some((whole) => whole.startsWith(text))) findings.push('a stream mixes the two machines')
  const status = await (await fetch(`${rig.url}/v1/status`)).text()
  if (!status.includes('AGENT_ID_DOUBLED')) findings.push('nobody is told that two agents share one id')
  return findings
}

function wholeOf(index: number): string {
  return block('before') + Array.from({ length: 30 }, (_, round) => block(`machine ${index} round ${round}`)).join('')
}

function block(name: string): string {
  return Array.from({ length: 50 }, (_, line) => `${name} line ${line} ${'.'.repeat(40)}\n`).join('')
}
