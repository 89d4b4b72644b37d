/** `tailrace-collector check-export`: builds the store as the collector would, walks the check, and prints each step. */
import { AppError } from '../shared/errors.ts'
import type { System } from '../shared/system.ts'
import type { CollectorConfig } from './config.ts'
import { checkExport, type CheckedStep } from './export/check-export.ts'
import { describeHop, HopWatch } from './export/hop-watch.ts'
import { openRemoteStore } from './export/open-store.ts'
import type { WebHdfsTransport } from './export/webhdfs-client.ts'

/** Resolves with whether every step went well. INVALID_CONFIG where no export is configured. */
export async function runCheckExport(
  system: System,
  config: CollectorConfig,
  options: { readonly transport: WebHdfsTransport; readonly print: (line: string) => void },
): Promise<boolean> {
  if (config.export === undefined) throw new AppError('INVALID_CONFIG', 'no export is configured', { hint: 'say --hdfs http://namenode:9870/folder, or --export-to file:///folder' })
  const watch = new HopWatch()
  const transport = watch.over(options.transport, config.export.store.mode ?? 'webhdfs')
  const store = openRemoteStore(config.export.url, config.export.store, { system, ...transport })
  options.print(`export to ${store.description}`)
  let isWell = true
  try {
    for await (const step of checkExport({ store, system, takeHops: () => watch.take() })) {
      for (const line of describeStep(step)) options.print(line)
      isWell &&= step.error === undefined
    }
  } finally {
    await store.close()
  }
  options.print(isWell ? 'the export can work' : 'the export can not work like this')
  return isWell
}

function describeStep({ step, ms, hops, note, error, advice }: CheckedStep): string[] {
  const verdict = error === undefined ? 'ok    ' : 'FAILED'
  const head = `${verdict} ${step} (${ms} ms)${note === '' ? '' : `: ${note}`}`
  const via = hops.map((hop) => `         ${describeHop(hop)}`)
  if (error === undefined) return [head, ...via]
  return [head, ...via, `       ${error.message} (${error.code})`, `       what to do: ${advice ?? ''}`]
}
