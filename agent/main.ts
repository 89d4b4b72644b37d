/**
 * `tailrace-agent`: reads arguments, config and environment, builds the System, runs one verb. The only file of the
 * agent that touches the process. Exit codes: 0 well, 1 failed, 2 wrong use or config, 4 cannot connect (status).
 */
import { readFileSync, statSync } from 'node:fs'
import { availableParallelism, hostname } from 'node:os'
import { Command, CommanderError } from 'commander'
import { runDaemon, type DaemonService } from '../shared/daemon.ts'
import { AppError, toAppError } from '../shared/errors.ts'
import { keepCodeSmall, keepYoungHeapSmall } from '../shared/node/memory.ts'
import { createNodeSystem } from '../shared/node-system.ts'
import { addSettingFlags, formatProblems, parseSettings } from '../shared/settings.ts'
import type { System } from '../shared/system.ts'
import { VERSION } from '../shared/version.ts'
import { AGENT_ADMIN_PORT, parseJson } from '../shared/wire.ts'
import { loadZstd } from '../shared/zstd.ts'
import { startAgentService, type ServiceConfig } from './service.ts'
import { agentConfig, agentProblems, agentSettings, parseAddress, type AgentSettings } from './config.ts'
import { statusPath } from './admin.ts'
import { agentStatusSchema, statusTable } from './status.ts'

const EXIT_USAGE = 2
const EXIT_UNREACHABLE = 4
const SECRET_BYTES_MAX = 64 * 1024
/** What a daemon has to stop: 10 s of sending, and a little to close. */
const DRAIN_MS = 12_000
const STATUS_BYTES_MAX = 64 * 1024 * 1024

interface RunOptions extends Record<string, unknown> {
  readonly config?: string
}

/** Resolves with the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  let exitCode = 0
  const program = new Command('tailrace-agent')
    .description('Follows log files and ships them to a tailrace collector: every complete line once, in order.')
    .version(VERSION)
    .exitOverride()
    .showHelpAfterError('(see tailrace-agent --help)')
    .addHelpText(
      'after',
      `
Examples:
  tailrace-agent run --collector http://127.0.0.1:4280 --topic app '/var/log/app/*.log'
  tailrace-agent run --config /etc/tailrace/agent.yaml
  tailrace-agent run --once --collector http://127.0.0.1:4280 --topic app /var/log/app/old.log
  tailrace-agent status`,
    )
  const verb = (name: string, help: string): Command => addSettingFlags(program.command(name).description(help).argument('[globs...]', 'files to follow').option('--config <file>', 'YAML file with the settings'), agentSettings)
  verb('run', 'follow files and ship them').action(async (globs: string[], options: RunOptions) => {
    exitCode = await run(() => readConfig(globs, options))
  })
  verb('check-config', 'say what is wrong with the settings, and do nothing').action((globs: string[], options: RunOptions) => {
    readConfig(globs, options)
    process.stdout.write('the settings are valid\n')
  })
  program
    .command('status')
    .description('ask a running agent how far it is with each file, and why one is not read')
    .option('--admin <url>', 'address of the agent', `http://127.0.0.1:${AGENT_ADMIN_PORT}`)
    .option('--json', 'print JSON')
    .action(async (options: { admin: string; json?: boolean }) => {
      exitCode = await status(options)
    })
  await program.parseAsync([...argv])
  return exitCode
}

/** Throws INVALID_CONFIG with every mistake, a line each. */
function readConfig(globs: readonly string[], options: RunOptions): ServiceConfig {
  const flags = globs.length === 0 ? options : { ...options, files: [...globs, ...filesOf(options)] }
  const fileText = options.config === undefined ? '' : readText(options.config, 1024 * 1024, 'the config')
  const parsed = parseSettings(agentSettings, { fileText, flags })
  const problems = agentProblems(parsed)
  if (problems.length > 0) throw new AppError('INVALID_CONFIG', formatProblems(problems, options.config).trimEnd())
  const { values } = parsed
  return {
    agent: agentConfig(values, hostname()),
    admin: values.admin === 'off' ? undefined : parseAddress(values.admin),
    logLevel: values.logLevel,
    tls: tlsOf(values),
    token: tokenSource(values),
    ownNames: [hostname()],
    text: JSON.stringify(values),
  }
}

function filesOf(options: RunOptions): readonly string[] {
  const { files } = options
  return Array.isArray(files) ? files.map(String) : []
}

function tlsOf(values: AgentSettings): { ca?: string; cert?: string; key?: string } {
  const read = (path: string | undefined): string | undefined => (path === undefined ? undefined : readText(path, SECRET_BYTES_MAX, 'a TLS file'))
  const [ca, cert, key] = [read(values.tlsCaFile), read(values.tlsCertFile), read(values.tlsKeyFile)]
  return { ...(ca === undefined ? {} : { ca }), ...(cert === undefined ? {} : { cert }), ...(key === undefined ? {} : { key }) }
}

/** From the flag, the environment, or a file that is read again when it has changed. */
function tokenSource(values: AgentSettings): () => string | undefined {
  const { tokenFile } = values
  const fixed = values.token ?? process.env['TAILRACE_TOKEN']
  if (tokenFile === undefined) return () => fixed
  let known = { mtimeMs: -1, token: '' }
  return () => {
    const { mtimeMs } = statSync(tokenFile)
    if (mtimeMs !== known.mtimeMs) known = { mtimeMs, token: readText(tokenFile, SECRET_BYTES_MAX, 'the token').trim() }
    return known.token
  }
}

function readText(path: string, bytesMax: number, what: string): string {
  try {
    if (statSync(path).size > bytesMax) throw new AppError('INVALID_CONFIG', `${what} ${path} is over ${bytesMax} bytes`)
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof AppError) throw error
    throw new AppError('INVALID_CONFIG', `${what} ${path} can not be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
  }
}

async function run(read: () => ServiceConfig): Promise<number> {
  const config = read()
  keepCodeSmall()
  keepYoungHeapSmall()
  const system = createNodeSystem({ logLevel: config.logLevel, component: 'agent', http: { tls: config.tls }, clock: { isWholeMs: true } })
  const zstd = await loadZstd()
  return runDaemon({
    system,
    drainMs: DRAIN_MS,
    start: (fatal): Promise<DaemonService> => startAgentService({ system, zstd, config, readConfig: read, cores: availableParallelism(), fatal, systemFor }),
  })
}

/** Certificates belong to the HTTP client, so new ones come with a new client; log and metrics stay. */
function systemFor(config: ServiceConfig, system: System): System {
  return { ...system, http: createNodeSystem({ http: { tls: config.tls } }).http }
}

async function status(options: { admin: string; json?: boolean }): Promise<number> {
  const { http } = createNodeSystem()
  try {
    const response = await http.request({ method: 'GET', url: options.admin.replace(/\/$/, '') + statusPath })
    const pieces: Uint8Array[] = []
    let length = 0
    for await (const piece of response.body) {
      length += piece.length
      if (length > STATUS_BYTES_MAX) throw new AppError('REMOTE_ERROR', 'the answer is too long')
      pieces.push(piece)
    }
    const text = Buffer.concat(pieces).toString('utf8')
    if (response.status !== 200) throw new AppError('REMOTE_REFUSED', `status ${response.status}: ${text.slice(0, 500)}`)
    const parsed = parseJson(agentStatusSchema, text, 'status')
    process.stdout.write(options.json === true ? `${JSON.stringify(parsed, undefined, 2)}\n` : statusTable(parsed))
    return 0
  } catch (thrown) {
    const error = toAppError(thrown)
    process.stderr.write(`tailrace-agent: ${error.message}\n`)
    return error.code === 'CANNOT_CONNECT' ? EXIT_UNREACHABLE : 1
  } finally {
    await http.close()
  }
}

function explain(thrown: unknown): number {
  if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? 0 : EXIT_USAGE
  const error = toAppError(thrown)
  process.stderr.write(`${error.message}\n${error.hint === undefined ? '' : `hint: ${error.hint}\n`}`)
  return error.code === 'INVALID_CONFIG' ? EXIT_USAGE : 1
}

process.exitCode = await main(process.argv).catch(explain)
process.exit()
