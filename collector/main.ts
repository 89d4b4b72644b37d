/**
 * `tailrace-collector`: reads arguments and config, builds the System, runs one verb. The only file of the collector
 * that touches the process. Exit codes: 0 well, 1 failed, 2 wrong use or config.
 */
import { readFileSync, statSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { Command, CommanderError } from 'commander'
import { runDaemon, type DaemonService } from '../shared/daemon.ts'
import { AppError, errnoOf, toAppError } from '../shared/errors.ts'
import { createNodeSystem } from '../shared/node-system.ts'
import { createHttpClient } from '../shared/node/http-client.ts'
import { keepYoungHeapSmall } from '../shared/node/memory.ts'
import { addSettingFlags, formatProblems, parseSettings } from '../shared/settings.ts'
import type { System } from '../shared/system.ts'
import { VERSION } from '../shared/version.ts'
import { loadZstd } from '../shared/zstd.ts'
import { runCheckExport } from './check-export.ts'
import { startCollector } from './collector.ts'
import { collectorSettings, toCollectorConfig, type CollectorConfig } from './config.ts'
import { createEncoderThread } from './export/tables/encoder-thread.ts'
import type { WebHdfsTransport } from './export/webhdfs-client.ts'
import { createToken, loadTokens, revokeToken, type TokenGrant } from './http/tokens.ts'
import { createWorkerPool } from './query/worker-pool.ts'
import { runRestore } from './restore.ts'

const EXIT_USAGE = 2
const FILE_BYTES_MAX = 1024 * 1024
/** Beyond the drain: closing the export and the log. */
const CLOSE_MS = 10_000
const SCAN_WORKERS_MAX = 4

interface RunOptions extends Record<string, unknown> {
  readonly config?: string
}

interface RestoreFlags extends RunOptions {
  readonly dryRun?: boolean
  readonly takeOver?: boolean
}

/** Resolves with the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  let exitCode = 0
  const program = new Command('tailrace-collector')
    .description('Takes lines from agents and scripts, keeps them in a durable log, and exports it.')
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError('(see tailrace-collector --help)')
    .addHelpText(
      'after',
      `
Examples:
  tailrace-collector run --data ./data
  tailrace-collector run --config /etc/tailrace/collector.yaml
  tailrace-collector run --data ./data --hdfs http://namenode:9870/tailrace
  tailrace-collector check-export --hdfs http://namenode:9870/tailrace
  tailrace-collector restore --data ./data --hdfs http://namenode:9870/tailrace --dry-run
  tailrace-collector token create --data ./data --agent web-1 --host web-1`,
    )
  const verb = (name: string, help: string): Command =>
    addSettingFlags(program.command(name).description(help).option('--config <file>', 'YAML file with the settings'), collectorSettings)
  verb('run', 'run the collector until it is told to stop').action(async (options: RunOptions) => {
    exitCode = await run(readConfig(options))
  })
  verb('check-config', 'say what is wrong with the settings, and do nothing').action((options: RunOptions) => {
    readConfig(options)
    process.stdout.write('the settings are valid\n')
  })
  verb('check-export', 'walk the way to the export store with a probe file, and say which hop fails').action(async (options: RunOptions) => {
    exitCode = await checkExport(readConfig({ data: '.', ...options }))
  })
  verb('restore', 'make the data folder agree with the export store again, after it was lost or set back to an older copy')
    .option('--dry-run', 'only tell what would be done')
    .option('--take-over', 'the collector that wrote to the store last is dead for sure: do not wait until it was quiet for long enough')
    .action(async (options: RestoreFlags) => {
      exitCode = await restore(readConfig(options), options)
    })
  addTokenCommands(program)
  await program.parseAsync([...argv])
  return exitCode
}

/** Throws INVALID_CONFIG with every mistake, a line each. */
function readConfig(options: RunOptions): CollectorConfig {
  const fileText = options.config === undefined ? '' : readText(options.config)
  const result = toCollectorConfig(parseSettings(collectorSettings, { fileText, flags: options }))
  if ('config' in result) return result.config
  throw new AppError('INVALID_CONFIG', formatProblems(result.problems, options.config).trimEnd())
}

function readText(path: string): string {
  try {
    if (statSync(path).size > FILE_BYTES_MAX) throw new AppError('INVALID_CONFIG', `${path} is over ${FILE_BYTES_MAX} bytes`)
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('INVALID_CONFIG', `${path} can not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

/** Clients for the export store, with its own authority where it has one. */
function exportTransport(config: CollectorConfig): WebHdfsTransport {
  const ca = config.export?.caFile === undefined ? undefined : readText(config.export.caFile)
  const tls = ca === undefined ? {} : { tls: { ca } }
  return { http: createHttpClient(tls), streamingHttp: createHttpClient({ ...tls, keepsConnections: false }) }
}

async function checkExport(config: CollectorConfig): Promise<number> {
  const system = createNodeSystem({ logLevel: 'error', component: 'check-export' })
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`)
  }
  return (await runCheckExport(system, config, { transport: exportTransport(config), print })) ? 0 : 1
}

async function restore(config: CollectorConfig, { dryRun, takeOver }: RestoreFlags): Promise<number> {
  const system = createNodeSystem({ logLevel: 'error', component: 'restore' })
  const print = (line: string): void => {
    process.stdout.write(`${line}\n`)
  }
  await runRestore(system, config, { transport: exportTransport(config), zstd: await loadZstd(), print, isDryRun: dryRun === true, takesOver: takeOver === true })
  return 0
}

async function run(config: CollectorConfig): Promise<number> {
  keepYoungHeapSmall()
  const system = createNodeSystem({ logLevel: config.logLevel, component: 'collector' })
  const zstd = await loadZstd()
  return runDaemon({
    system,
    drainMs: config.drainMs + CLOSE_MS,
    start: (fatal): Promise<DaemonService> =>
      startCollector(system, config, {
        zstd,
        executor: createWorkerPool({
          entry: new URL('./scan-worker.js', import.meta.url),
          size: Math.min(SCAN_WORKERS_MAX, availableParallelism()),
          log: system.log,
        }),
        tableEncoder: createEncoderThread({ entry: new URL('./table-worker.js', import.meta.url), log: system.log }),
        exportHttp: exportTransport(config),
        onFatal: fatal,
      }),
  })
}

interface CreateOptions {
  readonly data: string
  readonly agent?: string
  readonly host?: string
  readonly role?: string
}

function addTokenCommands(program: Command): void {
  const token = program.command('token').description('bearer tokens for agents and people; a running collector reads them anew on SIGHUP')
  const verb = (name: string, help: string): Command => token.command(name).description(help).requiredOption('--data <folder>', 'data folder of the collector')
  verb('create', 'make a token and print it: the only time that it can be seen')
    .option('--agent <id>', 'for the agent with this id')
    .option('--host <name>', 'host of that agent (default: its id)')
    .option('--role <role>', 'for people and programs: read or admin')
    .action(async (options: CreateOptions) => {
      const made = await createToken(tokenSystem(), options.data, grantOf(options))
      process.stdout.write(`${made.token}\n`)
      process.stderr.write(`id ${made.id}; reload the collector (SIGHUP) to let it in\n`)
    })
  verb('list', 'list tokens, without their secrets').action(async ({ data }: { data: string }) => {
    for (const each of await loadTokens(tokenSystem(), data)) {
      const whom = each.role === 'agent' ? `agent ${each.agentId} on ${each.host}` : each.role
      process.stdout.write(`${each.id}  ${new Date(each.createdMs).toISOString()}  ${whom}\n`)
    }
  })
  verb('revoke', 'forget a token')
    .argument('<id>', 'as listed')
    .action(async (id: string, { data }: { data: string }) => {
      await revokeToken(tokenSystem(), data, id)
      process.stderr.write('revoked; reload the collector (SIGHUP) to shut it out\n')
    })
}

function tokenSystem(): System {
  return createNodeSystem({ component: 'token' })
}

function grantOf({ agent, host, role }: CreateOptions): TokenGrant {
  if (agent !== undefined && role === undefined) return { role: 'agent', agentId: agent, host: host ?? agent }
  if (agent === undefined && host === undefined && (role === 'read' || role === 'admin')) return { role }
  throw new AppError('INVALID_CONFIG', 'say whom the token is for: --agent ID [--host NAME], or --role read, or --role admin')
}

function explain(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : EXIT_USAGE
  const error = toAppError(thrown)
  const isForeign = error.code === 'INTERNAL' && errnoOf(thrown) === undefined
  process.stderr.write(`${isForeign && thrown instanceof Error ? (thrown.stack ?? error.message) : error.message}\n`)
  if (error.hint !== undefined) process.stderr.write(`hint: ${error.hint}\n`)
  return error.code === 'INVALID_CONFIG' ? EXIT_USAGE : 1
}

process.exitCode = await main(process.argv).catch(explain)
process.exit()
