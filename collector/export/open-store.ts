/**
 * From a URL to a store: `file:///folder`, `http(s)://namenode:9870/hdfs/folder`, several NameNodes with commas between:
 * `http://nn1:9870,nn2:9870/hdfs/folder`. All mistakes are INVALID_CONFIG, before anything is asked of the network.
 */
import { fileURLToPath } from 'node:url'
import { AppError } from '../../shared/errors.ts'
import { readTextFile } from '../../shared/files.ts'
import type { System } from '../../shared/system.ts'
import { createFileStore } from './file-store.ts'
import type { RemoteStore } from './remote-store.ts'
import { Negotiator, type LoadKerberos } from './spnego.ts'
import { createWebHdfsStore } from './webhdfs-store.ts'
import type { WebHdfsOptions, WebHdfsTransport } from './webhdfs-client.ts'

export interface StoreOptions {
  /** Default `webhdfs`. */
  readonly mode?: 'webhdfs' | 'httpfs'
  /** `user.name` of simple authentication. */
  readonly userName?: string
  readonly doAs?: string
  /** Default `simple`: the user name is believed. */
  readonly auth?: 'simple' | 'kerberos'
  /** Where the package `kerberos` comes from; tests bring their own. */
  readonly loadKerberos?: LoadKerberos
  /** Holds one delegation token as HDFS prints it; read again when the server refuses the one in use. */
  readonly delegationTokenFile?: string
  /** Where a NameNode may redirect to: names, `.suffix`es, addresses, CIDR blocks. Default: its neighbours. */
  readonly allowedHosts?: readonly string[]
  /** DataNode `host` or `host:port` → what to connect to instead. */
  readonly dataNodeHosts?: Readonly<Record<string, string>>
}

export type StoreSystem = Pick<System, 'fs' | 'clock' | 'random' | 'log'>

const TOKEN_FILE_BYTES_MAX = 64 * 1024
const NAME_NODES_MAX = 16
const urlHint = 'write file:///folder, http://namenode:9870/folder, or several NameNodes with commas between'

export function openRemoteStore(url: string, options: StoreOptions, deps: { readonly system: StoreSystem } & WebHdfsTransport): RemoteStore {
  const { system, ...transport } = deps
  if (url.startsWith('file:')) return createFileStore(system.fs, folderOf(url))
  const { nameNodes, root } = parseHdfsUrl(url)
  const { delegationTokenFile } = options
  const settings: WebHdfsOptions = {
    nameNodes,
    root,
    mode: options.mode ?? 'webhdfs',
    redirects: { allowedHosts: options.allowedHosts ?? [], dataNodeHosts: options.dataNodeHosts ?? {} },
    ...(options.userName === undefined ? {} : { userName: options.userName }),
    ...(options.auth === 'kerberos' ? { negotiator: new Negotiator(options.loadKerberos) } : {}),
    ...(options.doAs === undefined ? {} : { doAs: options.doAs }),
    ...(delegationTokenFile === undefined ? {} : { readToken: () => readTextFile(system.fs, delegationTokenFile, TOKEN_FILE_BYTES_MAX) }),
  }
  return createWebHdfsStore(system, transport, settings)
}

function folderOf(url: string): string {
  if (!URL.canParse(url) || new URL(url).host !== '') throw invalid(url, 'is not a file URL of this machine')
  const path = fileURLToPath(url).replace(/\/+$/, '')
  if (path === '') throw invalid(url, 'names the root of the file system')
  return path
}

/** `webhdfs:` and `swebhdfs:` are Hadoop's own names for the two. Exported for tests and for `check-config`. */
export function parseHdfsUrl(spelt: string): { readonly nameNodes: readonly string[]; readonly root: string } {
  const url = spelt.replaceAll(/\bwebhdfs:\/\//g, 'http://').replaceAll(/\bswebhdfs:\/\//g, 'https://')
  const scheme = /^https?:\/\//.exec(url)?.[0]
  if (scheme === undefined) throw invalid(url, 'is neither file: nor http(s):')
  const nameNodes: string[] = []
  let root = ''
  for (const part of url.split(',').map((each) => each.trim())) {
    const whole: string = /^[a-z]+:\/\//.test(part) ? part : `${scheme}${part}`
    if (!URL.canParse(whole) || !whole.startsWith(scheme)) throw invalid(url, `has a part that is no ${scheme} address`)
    const parsed = new URL(whole)
    if (parsed.username !== '' || parsed.password !== '' || parsed.search !== '' || parsed.hash !== '') throw invalid(url, 'may hold no user, query or fragment')
    const path = decodeURIComponent(parsed.pathname).replace(/\/+$/, '')
    if (path !== '' && root !== '' && path !== root) throw invalid(url, 'names two folders')
    if (path !== '') root = path
    nameNodes.push(parsed.origin)
  }
  if (nameNodes.length > NAME_NODES_MAX) throw invalid(url, `lists more than ${NAME_NODES_MAX} NameNodes`)
  if (root === '') throw invalid(url, 'names no folder: export does not write to the root of HDFS')
  if (root.split('/').some((part, index) => index > 0 && (part === '' || part === '.' || part === '..' || part.includes(':')))) throw invalid(url, 'has a folder that HDFS does not take')
  return { nameNodes, root }
}

function invalid(url: string, what: string): AppError {
  return new AppError('INVALID_CONFIG', `${JSON.stringify(url)} ${what}`, { hint: urlHint })
}
