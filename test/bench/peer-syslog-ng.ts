/**
 * syslog-ng as a peer: file source, reliable disk buffer, flow control, TCP without compression (it acknowledges nothing
 * in this version). Debian lets only one of rsyslog and syslog-ng be installed, so it may stand unpacked in a folder.
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Peer, PeerCommands, PeerSetup } from './peer.ts'
import { outputOf } from './programs.ts'

const DISK_BUFFER_BYTES = 2_147_483_648
const LINE_BYTES_MAX = 65_536

interface Installed {
  readonly binary: string
  readonly modules: string
  readonly env: Readonly<Record<string, string>>
  /** Such as 3.38: a configuration begins with it. */
  readonly configVersion: string
}

/** None where it is not installed. */
export async function syslogNgPeers(root: string): Promise<readonly Peer[]> {
  const libraries = join(root, 'usr/lib/syslog-ng')
  const versions = await readdir(libraries).catch(() => [])
  const configVersion = versions.find((name) => /^\d+\.\d+$/.test(name))
  if (configVersion === undefined) return []
  const installed = { binary: join(root, 'usr/sbin/syslog-ng'), modules: join(libraries, configVersion), env: { LD_LIBRARY_PATH: libraries }, configVersion }
  const said = await outputOf([installed.binary, '--version', `--module-path=${installed.modules}`], installed.env)
  const version = /Installer-Version:\s*(\S+)/.exec(said ?? '')?.[1]
  if (version === undefined) return []
  return [{ name: 'syslog-ng', version: `syslog-ng ${version}`, prepare: (setup) => prepare(installed, setup) }]
}

async function prepare(installed: Installed, { folder, logsFolder, port, output }: PeerSetup): Promise<PeerCommands> {
  const buffer = join(folder, 'buffer')
  await mkdir(buffer, { recursive: true })
  const header = `@version: ${installed.configVersion}\noptions { stats-freq(0); use-dns(no); keep-hostname(yes); log-msg-size(${LINE_BYTES_MAX}); };\n`
  const sender = join(folder, 'sender.conf')
  const receiver = join(folder, 'receiver.conf')
  await writeFile(sender, `${header}
source files { wildcard-file(base-dir("${logsFolder}") filename-pattern("*.log") follow-freq(1) flags(no-parse)); };
destination forward { network("127.0.0.1" port(${port}) transport("tcp") disk-buffer(reliable(yes) disk-buf-size(${DISK_BUFFER_BYTES}) dir("${buffer}"))); };
log { source(files); destination(forward); flags(flow-control); };
`)
  await writeFile(receiver, `${header}
source in { network(ip("127.0.0.1") port(${port}) transport("tcp") flags(no-parse)); };
destination out { file("${output}" template("$MSG\\n")); };
log { source(in); destination(out); flags(flow-control); };
`)
  const command = (conf: string, name: string): string[] => [
    installed.binary, '--foreground', '--stderr', '--no-caps', `--cfgfile=${conf}`, `--module-path=${installed.modules}`,
    `--persist-file=${join(folder, `${name}.persist`)}`, `--pidfile=${join(folder, `${name}.pid`)}`, `--control=${join(folder, `${name}.ctl`)}`,
  ]
  return { agent: command(sender, 'sender'), receiver: command(receiver, 'receiver'), env: installed.env }
}
