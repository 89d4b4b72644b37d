/**
 * Does the way to the store work? Walks what an export does with a probe file of its own: look, make a folder, create,
 * compare, read, rename, delete. Stops at the first step that fails, removes what it left, and says what a person can do.
 * It touches nothing but `_tmp` and may run beside a running collector.
 */
import { createHash } from 'node:crypto'
import { AppError, BugError, toAppError } from '../../shared/errors.ts'
import type { Clock, Random } from '../../shared/system.ts'
import type { Hop } from './hop-watch.ts'
import { probePath, TEMP_DIRECTORY } from './layout.ts'
import { readOwner } from './owner.ts'
import { bufferSource, readSmall, type RemoteStore } from './remote-store.ts'

export interface CheckedStep {
  readonly step: string
  readonly ms: number
  readonly hops: readonly Hop[]
  /** What was found, for people; empty where there is nothing to tell. */
  readonly note: string
  readonly error: AppError | undefined
  /** What to do about the error. */
  readonly advice: string | undefined
}

export interface CheckOptions {
  readonly store: RemoteStore
  readonly system: { readonly clock: Clock; readonly random: Random }
  /** The hops since it was asked last; for stores without any, an empty list. */
  readonly takeHops: () => readonly Hop[]
}

/** Larger than one packet of HDFS (64 KiB), so that a broken pipeline shows. */
const PROBE_BYTES = 256 * 1024

interface Step {
  readonly name: string
  readonly run: () => Promise<string>
}

export async function* checkExport(options: CheckOptions): AsyncGenerator<CheckedStep> {
  const { store, system, takeHops } = options
  const nonce = system.random.bytes(8).toString('hex')
  const [probe, renamed] = [probePath(nonce), probePath(`${nonce}-renamed`)]
  takeHops()
  for (const step of steps(store, { probe, renamed, bytes: system.random.bytes(PROBE_BYTES) })) {
    const startMs = system.clock.monotonicMs()
    let note = ''
    let error: AppError | undefined
    try {
      note = await step.run()
    } catch (thrown) {
      if (thrown instanceof BugError) throw thrown
      error = toAppError(thrown)
    }
    const hops = takeHops()
    const ms = Math.round(system.clock.monotonicMs() - startMs)
    yield { step: step.name, ms, hops, note, error, advice: error === undefined ? undefined : adviceFor(error, hops) }
    if (error === undefined) continue
    await removeProbes(store, [probe, renamed])
    return
  }
}

function steps(store: RemoteStore, { probe, renamed, bytes }: { probe: string; renamed: string; bytes: Buffer }): readonly Step[] {
  const sha256 = createHash('sha256').update(bytes).digest('hex')
  const source = bufferSource(bytes)
  return [
    { name: 'look at the folder', run: async () => ((await store.stat('')) === undefined ? 'it is not there yet and will be made' : '') },
    { name: 'make a folder', run: async () => store.makeDirectories(TEMP_DIRECTORY).then(() => '') },
    { name: 'create a file', run: async () => store.put(probe, source).then(() => `${bytes.length} bytes`) },
    {
      name: 'compare it',
      run: async () => {
        const match = await store.matches(probe, { lengthBytes: bytes.length, sha256, source })
        if (match !== 'same') throw new AppError('REMOTE_ERROR', `what was stored is not what was sent: ${match}`)
        return ''
      },
    },
    {
      name: 'read it back',
      run: async () => {
        if (!(await readSmall(store, probe, bytes.length)).equals(bytes)) throw new AppError('REMOTE_ERROR', 'what was read is not what was written')
        return ''
      },
    },
    {
      name: 'rename it',
      run: async () => {
        if (!(await store.rename(probe, renamed))) throw new AppError('REMOTE_REFUSED', 'the rename was answered with false')
        return ''
      },
    },
    {
      name: 'delete it',
      run: async () => {
        if (!(await store.remove(renamed))) throw new AppError('REMOTE_ERROR', 'the renamed file was not there')
        return ''
      },
    },
    { name: 'ask whose it is', run: () => describeOwner(store) },
  ]
}

async function describeOwner(store: RemoteStore): Promise<string> {
  const { owner } = await readOwner(store)
  return owner === undefined ? 'nobody exports there yet' : `cluster ${owner.clusterId}, boot ${owner.boot}`
}

/** The step that failed is what counts; what can't be removed now is swept after a day. */
async function removeProbes(store: RemoteStore, paths: readonly string[]): Promise<void> {
  for (const path of paths) await Promise.allSettled([store.remove(path)])
}

function adviceFor(error: AppError, hops: readonly Hop[]): string {
  const last = hops.at(-1)
  if (last !== undefined && typeof last.outcome !== 'number') return connectionAdvice(last, last.outcome.errno)
  return error.hint ?? (last === undefined ? 'look at the folder and its permissions' : `look at the log of the ${last.peer} at ${last.address}`)
}

function connectionAdvice({ peer, address }: Hop, errno: string | undefined): string {
  if (peer === 'DataNode') {
    return errno === 'ENOTFOUND' || errno === 'EAI_AGAIN'
      ? `this machine does not know the DataNode's name ${address}: add it to its DNS, map it with hdfsDataNodes, or go through HttpFS (hdfsMode: httpfs)`
      : `the NameNode names the DataNode ${address}, and it can not be reached from here: open the way to its web port, map it with hdfsDataNodes, or go through HttpFS (hdfsMode: httpfs)`
  }
  if (errno === 'ENOTFOUND' || errno === 'EAI_AGAIN') return `this machine does not know the name in ${address}: check the hdfs setting and DNS`
  if (errno === 'ECONNREFUSED') return `nothing listens at ${address}: is it the web port (NameNode 9870, with TLS 9871, HttpFS 14000), and is the ${peer} running?`
  return `no answer from ${address}: check the address, firewalls, and http against https`
}
