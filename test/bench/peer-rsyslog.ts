/**
 * rsyslog as a peer: imfile into a disk-assisted action queue that never gives up, over TCP with stream compression, or
 * over RELP, whose receiver acknowledges. Its receiver writes the message alone, so that both sides store the same text.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Peer, PeerCommands, PeerSetup } from './peer.ts'
import { inTemporaryFolder, outputOf } from './programs.ts'

const LINE_BYTES_MAX = '64k'

interface Way {
  readonly name: string
  readonly sender: (port: number) => string
  readonly senderModules: readonly string[]
  readonly receiver: (port: number) => string
  readonly receiverModules: readonly string[]
}

const compressedTcp: Way = {
  name: 'rsyslog tcp zlib',
  senderModules: [],
  sender: (port) => `type="omfwd" target="127.0.0.1" port="${port}" protocol="tcp" compression.mode="stream:always" zipLevel="6"`,
  receiverModules: ['imptcp'],
  receiver: (port) => `type="imptcp" address="127.0.0.1" port="${port}" compression.mode="stream:always" ruleset="store"`,
}

const relp: Way = {
  name: 'rsyslog relp',
  senderModules: ['omrelp'],
  // With the default window of 128 delayed TCP acks hold it at 2,700 lines a second on loopback (measured).
  sender: (port) => `type="omrelp" target="127.0.0.1" port="${port}" windowSize="2000"`,
  receiverModules: ['imrelp'],
  receiver: (port) => `type="imrelp" address="127.0.0.1" port="${port}" ruleset="store" maxDataSize="${LINE_BYTES_MAX}"`,
}

/** Those that are installed; none where rsyslogd is not. */
export async function rsyslogPeers(): Promise<readonly Peer[]> {
  const version = (await outputOf(['rsyslogd', '-v']))?.split('\n')[0]?.replace(/\s+compiled with.*/, '')
  if (version === undefined) return []
  return [compressedTcp, ...((await hasRelp()) ? [relp] : [])].map((way) => ({ name: way.name, version, prepare: (setup) => prepare(way, setup) }))
}

/** RELP is a package of its own. */
function hasRelp(): Promise<boolean> {
  return inTemporaryFolder(async (folder) => {
    const conf = join(folder, 'probe.conf')
    await writeFile(conf, ['module(load="omrelp")', 'module(load="imrelp")', 'action(type="omfile" file="/dev/null")', ''].join('\n'))
    return !/could not load module/i.test((await outputOf(['rsyslogd', '-N1', '-f', conf])) ?? 'could not load module')
  })
}

async function prepare(way: Way, { folder, logsFolder, port, output }: PeerSetup): Promise<PeerCommands> {
  const work = { sender: join(folder, 'sender'), receiver: join(folder, 'receiver') }
  await Promise.all(Object.values(work).map((path) => mkdir(path, { recursive: true })))
  const senderConf = join(folder, 'sender.conf')
  const receiverConf = join(folder, 'receiver.conf')
  await writeFile(senderConf, [
    globalLine(work.sender),
    'module(load="imfile" mode="inotify")',
    ...way.senderModules.map(load),
    `input(type="imfile" file="${logsFolder}/*.log" tag="bench:" reopenOnTruncate="on" persistStateInterval="1000" ruleset="send")`,
    'ruleset(name="send") {',
    `  action(${way.sender(port)} queue.type="LinkedList" queue.filename="forward" queue.maxDiskSpace="2g" queue.saveOnShutdown="on" action.resumeRetryCount="-1")`,
    '}',
    '',
  ].join('\n'))
  await writeFile(receiverConf, [
    globalLine(work.receiver),
    ...way.receiverModules.map(load),
    'template(name="line" type="string" string="%msg%\\n")',
    'ruleset(name="store") {',
    `  action(type="omfile" file="${output}" template="line")`,
    '}',
    `input(${way.receiver(port)})`,
    '',
  ].join('\n'))
  const command = (conf: string, pid: string): string[] => ['rsyslogd', '-n', '-f', conf, '-i', join(folder, pid)]
  return { agent: command(senderConf, 'sender.pid'), receiver: command(receiverConf, 'receiver.pid') }
}

function globalLine(work: string): string {
  return `global(workDirectory="${work}" maxMessageSize="${LINE_BYTES_MAX}" net.enableDNS="off")`
}

function load(module: string): string {
  return `module(load="${module}")`
}
