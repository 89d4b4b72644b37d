/** The peers of a run: what Debian's packages give, and what a file adds. What is absent is said, with how to get it. */
import { peersOf } from './peers-file.ts'
import { rsyslogPeers } from './peer-rsyslog.ts'
import { syslogNgPeers } from './peer-syslog-ng.ts'
import type { Peer } from './peer.ts'
import type { BenchOptions } from './workload.ts'

export interface FoundPeers {
  readonly peers: readonly Peer[]
  readonly notes: readonly string[]
}

export async function findPeers(options: BenchOptions): Promise<FoundPeers> {
  if (!options.hasPeers) return { peers: [], notes: ['peers were left out by --no-peers'] }
  const rsyslog = await rsyslogPeers()
  const syslogNg = await syslogNgPeers(options.syslogNgRoot)
  const further = options.peersFile === undefined ? [] : await peersOf(options.peersFile)
  const peers = [...rsyslog, ...syslogNg, ...further]
  const absent = [
    ...(rsyslog.length > 0 ? [] : ['SKIPPED rsyslog, which is not installed: apt-get install rsyslog rsyslog-relp']),
    ...(syslogNg.length > 0 ? [] : ['SKIPPED syslog-ng, which is not installed: apt-get install syslog-ng-core; beside rsyslog: apt-get download syslog-ng-core, dpkg -x it into a folder, and --syslog-ng-root FOLDER']),
  ]
  return { peers, notes: [...peers.map(({ name, version }) => `${name}: ${version}`), ...absent] }
}
