/**
 * Further peers from a file (`--peers FILE`), as plain command lines. Sections of `name = value`:
 *
 * ```
 * # one section for each peer
 * [curl]
 * version = curl --version
 * agent   = curl -s -o /dev/null -X POST -T {folder}/logs/access.log http://127.0.0.1:{port}/
 * sink    = http
 * ```
 *
 * `agent` is required. `sink` is `http` (bodies of POST requests; gzip, deflate, br and zstd are understood) or `tcp`:
 * the harness's own sink listens on {port}. Or `receiver` is a command of the peer's own that listens on {port} and
 * writes {output}. Also replaced: {logs} (a glob of the files), {folder} (scratch, new for each run). No shell is in
 * between: words are split at spaces. What needs more stands in a script that ends in `exec`.
 */
import { readFile } from 'node:fs/promises'
import type { Peer, PeerSetup } from './peer.ts'
import { outputOf, ownProgram } from './programs.ts'

const KEYS = ['version', 'agent', 'sink', 'receiver']

export interface PeerSection {
  readonly name: string
  readonly values: ReadonlyMap<string, string>
}

export async function peersOf(path: string): Promise<readonly Peer[]> {
  return Promise.all(parsePeers(await readFile(path, 'utf8')).map(toPeer))
}

/** Throws with the line number of the first mistake. */
export function parsePeers(text: string): readonly PeerSection[] {
  const sections: { name: string; values: Map<string, string> }[] = []
  for (const [at, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const name = /^\[(.+)\]$/.exec(line)?.[1]
    const pair = /^([a-z]+)\s*=\s*(.+)$/.exec(line)
    if (name !== undefined) sections.push({ name, values: new Map() })
    else if (pair === null || !KEYS.includes(pair[1] ?? '')) throw new Error(`line ${at + 1} of the peers is neither [name] nor one of ${KEYS.join(', ')} = …`)
    else if (sections.length === 0) throw new Error(`line ${at + 1} of the peers stands before the first [name]`)
    else sections.at(-1)?.values.set(pair[1] ?? '', pair[2] ?? '')
  }
  for (const { name, values } of sections) {
    if (!values.has('agent')) throw new Error(`peer ${name} has no agent`)
    if (values.has('sink') === values.has('receiver')) throw new Error(`peer ${name} needs either sink or receiver`)
    if (values.has('sink') && !['http', 'tcp'].includes(values.get('sink') ?? '')) throw new Error(`the sink of peer ${name} is neither http nor tcp`)
  }
  return sections
}

async function toPeer({ name, values }: PeerSection): Promise<Peer> {
  const said = values.has('version') ? await outputOf(words(values.get('version') ?? '')) : ''
  if (said === undefined) throw new Error(`peer ${name}: there is no program ${values.get('version')}`)
  const sink = values.get('sink')
  return {
    name,
    version: said.split('\n').find((line) => line.trim() !== '')?.trim() ?? 'version not asked for',
    prepare: (setup) =>
      Promise.resolve({
        agent: filled(values.get('agent') ?? '', setup),
        receiver: sink === undefined ? filled(values.get('receiver') ?? '', setup) : [...ownProgram('bench-sink'), sink, String(setup.port), setup.output],
      }),
  }
}

function filled(command: string, { folder, logsFolder, port, output }: PeerSetup): string[] {
  const places: Readonly<Record<string, string>> = { logs: `${logsFolder}/*.log`, folder, port: String(port), output }
  return words(command).map((word) => word.replace(/\{(logs|folder|port|output)\}/g, (_, place: string) => places[place] ?? ''))
}

function words(command: string): string[] {
  return command.split(/\s+/).filter((word) => word !== '')
}
