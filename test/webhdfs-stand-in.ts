/**
 * A NameNode and a DataNode on real sockets that behave as Hadoop 3.5.0 and HttpFS 3.4.2 were measured to: `100
 * Continue` unasked, one connection per DataNode answer, 403 for every IOException, a short finished file after a broken
 * upload, booleans from RENAME that mean nothing by themselves, errors only on the DataNode leg, 307 or `noredirect`.
 *
 * It keeps files in memory. Faults are scripted with `onRequest`, which sees every request before it is served. What it
 * claims about Hadoop is checked by running the same contract suite against a real one (test/real).
 */
import { createHash, randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { crc32c } from '../shared/crc32c.ts'

export interface StandInOptions {
  readonly flavour?: 'webhdfs' | 'httpfs'
  /** Answers 307 even to `noredirect=true`, as servers before 2.9 do. */
  readonly alwaysRedirect?: boolean
  /** Redirects name this host instead of 127.0.0.1. */
  readonly dataNodeHost?: string
  /** PEM. Both servers speak TLS. */
  readonly tls?: { readonly cert: string; readonly key: string }
  /**
   * The NameNode, or HttpFS, wants SPNEGO: answers with the cookie to set, or undefined for 401. A DataNode never asks,
   * the redirect holds what it wants.
   */
  readonly authenticate?: (headers: IncomingMessage['headers']) => string | undefined
  /** Share the name space of another stand-in: a second NameNode of one cluster. */
  readonly files?: Map<string, StandInFile>
}

export interface StandInFile {
  kind: 'file' | 'directory'
  bytes: Buffer
  modifiedMs: number
  blockSize: number
  /** A writer holds the lease: length 0 for everybody else. */
  isOpen: boolean
}

export interface StandInRequest {
  readonly leg: 'name-node' | 'data-node'
  readonly method: string
  readonly op: string
  /** HDFS path. */
  readonly path: string
  readonly params: URLSearchParams
  readonly headers: IncomingMessage['headers']
}

/**
 * `exception`: answered at once. `cut`: the connection is destroyed, before anything is done, after the first `bytes` of
 * an upload, or (`after`) when all is done but unsaid. `corrupt`: an upload is stored with one byte changed.
 */
export type StandInFault =
  | { readonly kind: 'exception'; readonly exception: string; readonly message?: string; readonly status?: number }
  | { readonly kind: 'cut'; readonly bytes?: number; readonly after?: boolean }
  | { readonly kind: 'corrupt' }
  | { readonly kind: 'raw'; readonly status: number; readonly body: string }
  | { readonly kind: 'location'; readonly location: string }

export class WebHdfsStandIn {
  readonly files: Map<string, StandInFile>
  readonly requests: StandInRequest[] = []
  onRequest: ((request: StandInRequest) => StandInFault | undefined) | undefined
  /** Bytes that files may take, charged by whole blocks as HDFS does. */
  spaceQuotaBytes = Number.MAX_SAFE_INTEGER
  nowMs = Date.UTC(2026, 0, 1)
  private readonly options: StandInOptions
  private readonly nameNode: Server
  private readonly dataNode: Server
  private nameNodePort = 0
  private dataNodePort = 0

  private constructor(options: StandInOptions) {
    this.options = options
    this.files = options.files ?? new Map([['/', directory(0)]])
    this.nameNode = open(options, (request, response) => void this.serve('name-node', request, response))
    this.dataNode = open(options, (request, response) => void this.serve('data-node', request, response))
    // A DataNode says 100 Continue whether asked or not, and so does this one; node must not add another.
    this.dataNode.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => void this.serve('data-node', request, response))
  }

  static async start(options: StandInOptions = {}): Promise<WebHdfsStandIn> {
    const standIn = new WebHdfsStandIn(options)
    standIn.nameNodePort = await listen(standIn.nameNode)
    standIn.dataNodePort = await listen(standIn.dataNode)
    return standIn
  }

  /** `http://127.0.0.1:port`; with TLS by the name in the certificate. */
  get url(): string {
    return this.options.tls === undefined ? `http://127.0.0.1:${this.nameNodePort}` : `https://localhost:${this.nameNodePort}`
  }

  get dataNodeAddress(): string {
    return `127.0.0.1:${this.dataNodePort}`
  }

  async close(): Promise<void> {
    for (const server of [this.nameNode, this.dataNode]) {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  }

  /** What a finished file of that path holds. */
  contents(path: string): Buffer | undefined {
    const file = this.files.get(path)
    return file?.kind === 'file' && !file.isOpen ? file.bytes : undefined
  }

  private async serve(leg: StandInRequest['leg'], incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const url = new URL(incoming.url ?? '/', 'http://stand-in')
    const request: StandInRequest = {
      leg,
      method: incoming.method ?? '',
      op: (url.searchParams.get('op') ?? '').toUpperCase(),
      path: decodeURIComponent(url.pathname.replace(/^\/webhdfs\/v1/, '')).replace(/(.)\/$/, '$1') || '/',
      params: url.searchParams,
      headers: incoming.headers,
    }
    this.requests.push(request)
    const fault = this.onRequest?.(request)
    if (leg === 'name-node' && this.options.authenticate !== undefined) {
      const cookie = this.options.authenticate(incoming.headers)
      if (cookie === undefined) {
        // What Hadoop's filter sends: a page, and a cookie that takes the old one away.
        outgoing.writeHead(401, { 'www-authenticate': 'Negotiate', 'set-cookie': 'hadoop.auth=; Path=/; HttpOnly', 'content-type': 'text/html' }).end('<html>Authentication required</html>')
        return
      }
      outgoing.setHeader('set-cookie', [`hadoop.auth="${cookie}"; Path=/; HttpOnly`, 'other=1'])
    }
    incoming.on('error', () => undefined)
    try {
      if (leg === 'data-node' && request.method === 'PUT') outgoing.writeContinue()
      if (leg === 'data-node') outgoing.setHeader('connection', 'close')
      await this.answer(request, { incoming, outgoing, fault })
    } catch (error) {
      if (error instanceof RemoteException) this.sendException(outgoing, error)
      else throw error
    }
  }

  private async answer(request: StandInRequest, exchange: Exchange): Promise<void> {
    const { fault, outgoing, incoming } = exchange
    if (fault?.kind === 'raw') {
      outgoing.writeHead(fault.status, { 'content-type': 'text/html' }).end(fault.body)
      return
    }
    if (fault?.kind === 'exception') throw new RemoteException(fault.exception, fault.message ?? 'scripted', fault.status)
    if (fault?.kind === 'cut' && fault.bytes === undefined && fault.after !== true) {
      incoming.socket.destroy()
      return
    }
    if (request.op === 'CREATE') await this.create(request, exchange)
    else if (request.op === 'OPEN') this.open(request, exchange)
    else if (request.op === 'GETFILECHECKSUM') this.checksum(request, exchange)
    else {
      const answer = this.metadata(request)
      if (fault?.kind === 'cut') incoming.socket.destroy()
      else sendJson(outgoing, answer)
    }
  }

  /** HttpFS: SecurityException 401, FileNotFound 404, everything else 500. HDFS: 403 for every other IOException. */
  private sendException(outgoing: ServerResponse, error: RemoteException): void {
    const isMissing = error.exception === 'FileNotFoundException'
    const other = this.options.flavour === 'httpfs' ? 500 : badRequests.has(error.exception) ? 400 : 403
    const status = error.status ?? (isMissing ? 404 : other)
    const body = { RemoteException: { exception: error.exception, javaClassName: `org.apache.hadoop.${error.exception}`, message: error.message } }
    outgoing.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }

  private metadata(request: StandInRequest): unknown {
    const { path, op } = request
    switch (op) {
      case 'GETFILESTATUS':
        return { FileStatus: this.status(this.mustExist(path)) }
      case 'LISTSTATUS':
        return { FileStatuses: { FileStatus: this.children(path) } }
      case 'MKDIRS':
        this.makeDirectories(path)
        return { boolean: true }
      case 'RENAME':
        return { boolean: this.rename(path, request.params.get('destination') ?? '') }
      case 'DELETE':
        return { boolean: this.remove(path) }
      default:
        throw new RemoteException('UnsupportedOperationException', `${op} is not supported`)
    }
  }

  private mustExist(path: string): StandInFile {
    const file = this.files.get(path)
    if (file === undefined) throw new RemoteException('FileNotFoundException', `File does not exist: ${path}`)
    return file
  }

  private status(file: StandInFile, suffix = ''): unknown {
    return {
      type: file.kind === 'directory' ? 'DIRECTORY' : 'FILE',
      length: file.isOpen ? 0 : file.bytes.length,
      modificationTime: file.modifiedMs,
      blockSize: file.blockSize,
      pathSuffix: suffix,
      owner: 'stand-in',
      group: 'supergroup',
      permission: '644',
      replication: 1,
    }
  }

  private children(path: string): unknown[] {
    const file = this.mustExist(path)
    if (file.kind === 'file') return [this.status(file)]
    const prefix = path === '/' ? '/' : `${path}/`
    return [...this.files]
      .filter(([each]) => each.startsWith(prefix) && each !== '/' && !each.slice(prefix.length).includes('/'))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([each, child]) => this.status(child, each.slice(prefix.length)))
  }

  private makeDirectories(path: string): void {
    for (const each of ancestors(path)) {
      const file = this.files.get(each)
      if (file?.kind === 'file') throw new RemoteException('ParentNotDirectoryException', `${each} is not a directory`)
      if (file === undefined) this.files.set(each, directory(this.nowMs))
    }
  }

  /** move(), not rename(): into a directory of that name; false for everything that does not work. */
  private rename(from: string, to: string): boolean {
    const source = this.files.get(from)
    const target = this.files.get(to)
    if (source === undefined) return false
    if (from === to) return true
    const destination = target?.kind === 'directory' ? `${to}/${from.slice(from.lastIndexOf('/') + 1)}` : to
    if (this.files.has(destination) || this.files.get(parent(destination))?.kind !== 'directory' || destination.startsWith(`${from}/`)) return false
    for (const [path, file] of [...this.files]) {
      if (path !== from && !path.startsWith(`${from}/`)) continue
      this.files.delete(path)
      this.files.set(destination + path.slice(from.length), file)
    }
    return true
  }

  private remove(path: string): boolean {
    const file = this.files.get(path)
    if (file === undefined) return false
    if ([...this.files.keys()].some((each) => each.startsWith(`${path}/`))) throw new RemoteException('PathIsNotEmptyDirectoryException', `${path} is non empty`)
    return this.files.delete(path)
  }

  private async create(request: StandInRequest, exchange: Exchange): Promise<void> {
    if (request.leg === 'name-node' && this.options.flavour !== 'httpfs') {
      this.redirect(request, exchange)
      return
    }
    if (request.headers['content-type'] !== 'application/octet-stream' && this.options.flavour === 'httpfs') {
      exchange.outgoing.writeHead(400).end('Data upload requests must have content-type set to application/octet-stream')
      return
    }
    const blockSize = Number(request.params.get('blocksize') ?? 128 * 1024 * 1024)
    const file = this.openForWrite(request, blockSize)
    const isComplete = await this.receive(file, exchange)
    file.isOpen = false
    file.modifiedMs = this.nowMs
    if (!isComplete) return
    if (exchange.fault?.kind === 'cut') exchange.incoming.socket.destroy()
    else exchange.outgoing.writeHead(201, { location: `hdfs://stand-in${request.path}`, 'content-length': '0' }).end()
  }

  private openForWrite(request: StandInRequest, blockSize: number): StandInFile {
    const { path } = request
    const known = this.files.get(path)
    // HttpFS overwrites by default, the NameNode does not.
    const mayOverwrite = (request.params.get('overwrite') ?? String(this.options.flavour === 'httpfs')) === 'true'
    if (known?.isOpen === true) throw new RemoteException('AlreadyBeingCreatedException', `${path} is being created`)
    if (known !== undefined && (!mayOverwrite || known.kind === 'directory')) throw new RemoteException('FileAlreadyExistsException', `${path} for client 127.0.0.1 already exists`)
    if (blockSize % 512 !== 0) throw new RemoteException('HadoopIllegalArgumentException', `blocksize ${blockSize}`, 400)
    this.makeDirectories(parent(path))
    const file: StandInFile = { kind: 'file', bytes: Buffer.alloc(0), modifiedMs: this.nowMs, blockSize, isOpen: true }
    this.files.set(path, file)
    return file
  }

  /** False: the connection broke or a fault answered. What had arrived is finalised, as a DataNode does. */
  private async receive(file: StandInFile, exchange: Exchange): Promise<boolean> {
    const { fault, incoming } = exchange
    const pieces: Buffer[] = []
    let bytes = 0
    const keep = (limit: number): void => {
      file.bytes = Buffer.concat(pieces).subarray(0, limit)
    }
    try {
      for await (const piece of incoming) {
        pieces.push(piece as Buffer)
        bytes += (piece as Buffer).length
        if (fault?.kind === 'cut' && fault.bytes !== undefined && bytes >= fault.bytes) {
          keep(fault.bytes)
          incoming.socket.destroy()
          return false
        }
        if (this.usedBytes() + Math.ceil(bytes / file.blockSize) * file.blockSize > this.spaceQuotaBytes) {
          keep(bytes >> 1)
          file.isOpen = false
          throw new RemoteException('DSQuotaExceededException', 'The DiskSpace quota is exceeded')
        }
      }
    } catch (error) {
      if (error instanceof RemoteException) throw error
      keep(bytes)
      return false
    }
    keep(bytes)
    if (incoming.headers['content-length'] !== undefined && Number(incoming.headers['content-length']) !== bytes) return false
    if (fault?.kind === 'corrupt' && bytes > 0) file.bytes.writeUInt8(file.bytes.readUInt8(bytes >> 1) ^ 1, bytes >> 1)
    return true
  }

  private usedBytes(): number {
    let used = 0
    for (const file of this.files.values()) if (!file.isOpen) used += Math.ceil(file.bytes.length / Math.max(1, file.blockSize)) * file.blockSize
    return used
  }

  private open(request: StandInRequest, exchange: Exchange): void {
    if (request.leg === 'name-node') {
      const file = this.mustExist(request.path)
      const offset = Number(request.params.get('offset') ?? 0)
      // Checked on the NameNode already; a directory is not.
      if (file.kind === 'file' && file.bytes.length > 0 && offset >= file.bytes.length) throw new RemoteException('IOException', `Offset=${offset} out of the range [0, ${file.bytes.length}); OPEN, path=${request.path}`)
      if (this.options.flavour !== 'httpfs') {
        this.redirect(request, exchange)
        return
      }
    }
    const file = this.mustExist(request.path)
    if (file.kind === 'directory') throw new RemoteException('FileNotFoundException', `Path is not a file: ${request.path}`)
    const offset = Number(request.params.get('offset') ?? 0)
    const length = Number(request.params.get('length') ?? file.bytes.length)
    const bytes = file.bytes.subarray(offset, offset + length)
    exchange.outgoing.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': String(bytes.length) })
    if (exchange.fault?.kind !== 'cut' || exchange.fault.bytes === undefined) {
      exchange.outgoing.end(bytes)
      return
    }
    exchange.outgoing.write(bytes.subarray(0, exchange.fault.bytes), () => exchange.incoming.socket.destroy())
  }

  private checksum(request: StandInRequest, exchange: Exchange): void {
    if (request.leg === 'name-node' && this.options.flavour !== 'httpfs') {
      this.redirect(request, exchange)
      return
    }
    const { bytes, blockSize } = this.mustExist(request.path)
    sendJson(exchange.outgoing, { FileChecksum: hadoopChecksum(bytes, blockSize) })
  }

  private redirect(request: StandInRequest, { outgoing, fault }: Exchange): void {
    const excluded = request.params.get('excludedatanodes')?.split(',') ?? []
    if (excluded.includes(this.options.dataNodeHost ?? '127.0.0.1')) throw new RemoteException('IOException', `Failed to find datanode, suggest to check cluster health. excludeDatanodes=${excluded.join(',')}`)
    const params = new URLSearchParams(request.params)
    params.delete('noredirect')
    params.set('namenoderpcaddress', 'stand-in:9000')
    if (params.has('delegation')) params.set('delegation', `minted-${randomUUID()}`)
    const encoded = request.path.split('/').map(encodeURIComponent).join('/')
    const host = this.options.dataNodeHost === undefined ? this.dataNodeAddress : `${this.options.dataNodeHost}:${this.dataNodePort}`
    const scheme = this.options.tls === undefined ? 'http' : 'https'
    const location = fault?.kind === 'location' ? fault.location : `${scheme}://${host}/webhdfs/v1${encoded}?${params.toString()}`
    if (request.params.get('noredirect') === 'true' && this.options.alwaysRedirect !== true) sendJson(outgoing, { Location: location })
    else outgoing.writeHead(307, { location, 'content-length': '0' }).end()
  }
}

function open({ tls }: StandInOptions, serve: (request: IncomingMessage, response: ServerResponse) => void): Server {
  return tls === undefined ? createServer(serve) : createTlsServer(tls, serve)
}

interface Exchange {
  readonly incoming: IncomingMessage
  readonly outgoing: ServerResponse
  readonly fault: StandInFault | undefined
}

class RemoteException extends Error {
  readonly exception: string
  readonly status: number | undefined

  constructor(exception: string, message: string, status?: number) {
    super(message)
    this.exception = exception
    this.status = status
  }
}

const badRequests: ReadonlySet<string> = new Set(['IllegalArgumentException', 'UnsupportedOperationException', 'HadoopIllegalArgumentException', 'InvalidPathException'])

function directory(modifiedMs: number): StandInFile {
  return { kind: 'directory', bytes: Buffer.alloc(0), modifiedMs, blockSize: 0, isOpen: false }
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/'
}

function ancestors(path: string): string[] {
  const parts = path.split('/').filter((part) => part !== '')
  return ['/', ...parts.map((_part, index) => `/${parts.slice(0, index + 1).join('/')}`)]
}

function sendJson(outgoing: ServerResponse, body: unknown): void {
  outgoing.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
}

/** MD5-of-MD5-of-CRC32C, block by block as HDFS keeps the bytes: written apart from webhdfs-checksum.ts on purpose. */
function hadoopChecksum(bytes: Buffer, blockSize: number): { algorithm: string; bytes: string; length: number } {
  const blocks: Buffer[] = []
  for (let at = 0; at < bytes.length; at += blockSize) {
    const block = bytes.subarray(at, at + blockSize)
    const crcs = Buffer.alloc(4 * Math.ceil(block.length / 512))
    for (let index = 0; index * 512 < block.length; index += 1) crcs.writeUInt32BE(crc32c(block.subarray(index * 512, index * 512 + 512)), index * 4)
    blocks.push(createHash('md5').update(crcs).digest())
  }
  const size = blocks.length <= 2 ? 32 : 2 ** Math.ceil(Math.log2(blocks.length * 16))
  const md5 = createHash('md5').update(Buffer.concat(blocks, size)).digest('hex')
  const perBlock = blocks.length > 1 ? blockSize / 512 : 0
  const head = Buffer.alloc(12)
  head.writeInt32BE(512, 0)
  head.writeBigInt64BE(BigInt(perBlock), 4)
  return { algorithm: `MD5-of-${perBlock}MD5-of-512CRC32C`, bytes: `${head.toString('hex')}${md5}00000000`, length: 28 }
}
