/** The command line of the benchmark: which workloads, how large, how often. Parsed once, here. */
import { parseArgs } from 'node:util'
import { fileURLToPath } from 'node:url'
import { parseBytes } from '../../shared/units.ts'
import type { BenchOptions } from './workload.ts'

export interface CommandLine {
  readonly workloads: readonly string[]
  readonly runs: number | undefined
  readonly json: string | undefined
  readonly compare: string | undefined
  readonly isHelp: boolean
  readonly options: BenchOptions
}

export const helpText = `npm run bench -- [workload…] [options]

workloads: W1 W2 W3 W4 W5 W6 W7 W8 W9; none or "all" runs all of them

  --runs N              runs of each contestant, in turn (default: the workload's own, mostly 3)
  --json FILE           write all figures there
  --compare FILE        hold the ratios against an earlier --json; exit 1 when one is worse by more than 15 %
  --bytes SIZE          source bytes of W1, W2, W9 (default 300MB)
  --query-bytes SIZE    source bytes of W8 (default 1GB)
  --sealed-bytes SIZE   sealed bytes of W6 (default 400MB)
  --seconds N           how long load lasts in W3, W4, W5 (default 15)
  --away-seconds N      how long the collector is away in W7 (default 60)
  --rate N              lines a second in W3, W4, W5, W7 (default 10000)
  --idle-files N        idle files of W4 (default 10000)
  --agents N            agents of W5 (default 50)
  --no-peers            tailrace alone
  --peers FILE          further peers, as test/bench/README.md describes
  --syslog-ng-root DIR  where Debian's syslog-ng-core was unpacked (default /)
  --loghub DIR          folder of loghub's *.log (default: shared/data/loghub beside the project)
  --agent-arg ARG       one more argument for every agent, such as --agent-arg=--compress=fast; may be repeated
  --collector-arg ARG   the same for every collector
`

/** Throws on what it does not know. */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      runs: { type: 'string' }, json: { type: 'string' }, compare: { type: 'string' }, help: { type: 'boolean', default: false },
      bytes: { type: 'string', default: '300MB' }, 'query-bytes': { type: 'string', default: '1GB' }, 'sealed-bytes': { type: 'string', default: '400MB' },
      seconds: { type: 'string', default: '15' }, 'away-seconds': { type: 'string', default: '60' }, rate: { type: 'string', default: '10000' },
      'idle-files': { type: 'string', default: '10000' }, agents: { type: 'string', default: '50' },
      'no-peers': { type: 'boolean', default: false }, peers: { type: 'string' }, 'syslog-ng-root': { type: 'string', default: '/' },
      loghub: { type: 'string', default: fileURLToPath(new URL('../../shared/data/loghub', import.meta.url)) },
      'agent-arg': { type: 'string', multiple: true, default: [] }, 'collector-arg': { type: 'string', multiple: true, default: [] },
    },
  })
  return {
    workloads: positionals,
    runs: values.runs === undefined ? undefined : count('runs', values.runs),
    json: values.json,
    compare: values.compare,
    isHelp: values.help,
    options: {
      bytes: size('bytes', values.bytes),
      queryBytes: size('query-bytes', values['query-bytes']),
      sealedBytes: size('sealed-bytes', values['sealed-bytes']),
      seconds: count('seconds', values.seconds),
      awaySeconds: count('away-seconds', values['away-seconds']),
      linesPerSecond: count('rate', values.rate),
      idleFiles: count('idle-files', values['idle-files']),
      agents: count('agents', values.agents),
      loghub: values.loghub,
      hasPeers: !values['no-peers'],
      peersFile: values.peers,
      syslogNgRoot: values['syslog-ng-root'],
      agentArgs: values['agent-arg'],
      collectorArgs: values['collector-arg'],
    },
  }
}

function count(name: string, text: string): number {
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new Error(`--${name} ${text} is not a count`)
  return Number(text)
}

/** kB, MB and GB are powers of 1000 here, as in the figures of the peers; KiB, MiB and GiB are powers of 1024. */
function size(name: string, text: string): number {
  const decimal = /^([0-9]{1,9})(kB|MB|GB)$/.exec(text)
  const factors: Readonly<Record<string, number>> = { kB: 1e3, MB: 1e6, GB: 1e9 }
  const bytes = decimal === null ? parseBytes(text) : Number(decimal[1]) * (factors[decimal[2] ?? ''] ?? Number.NaN)
  if (bytes === undefined || !(bytes > 0)) throw new Error(`--${name} ${text} is not a size, such as 300MB or 1GiB`)
  return bytes
}
