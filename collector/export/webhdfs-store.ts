/**
 * A RemoteStore on HDFS: WebHDFS in two steps (NameNode, then DataNode) or HttpFS in one. Only the seven operations
 * that every WebHDFS dialect has, and GETFILECHECKSUM where the server knows it. Never APPEND, never overwrite.
 *
 * An upload that breaks leaves a finished, short file, or an open one of length 0, or a whole one: the caller takes a
 * fresh name after every rejection of `put` other than CONFLICT, and asks `matches` after every success. Calls may run
 * at the same time.
 */
import * as v from 'valibot'
import { AppError, toAppError } from '../../shared/errors.ts'
import type { HttpClient, HttpRequest, HttpResponse, System } from '../../shared/system.ts'
import { matchesByReading, type ByteSource, type ContentHasher, type ContentMatch, type ExpectedContent, type RemoteName, type RemoteStat, type RemoteStore } from './remote-store.ts'
import { checksumHasher, formatChecksum, hasLayout, hdfsMd5, parseHdfsChecksum } from './webhdfs-checksum.ts'
import {
  absolutePath,
  describe,
  LIST_BODY_BYTES_MAX,
  parseBody,
  readBody,
  SMALL_BODY_BYTES_MAX,
  WebHdfsClient,
  type CallAnswer,
  type WebHdfsCall,
  type WebHdfsOptions,
  type WebHdfsTransport,
} from './webhdfs-client.ts'

const MIB = 1024 * 1024
/** A segment is one block where it may be: a space quota is charged by whole blocks, and one block is one checksum. */
const BLOCK_BYTES_MAX = 512 * MIB
/** What clusters have unless `dfs.bytes-per-checksum` says otherwise. */
const BYTES_PER_CRC = 512
const DATA_NODES_TRIED_MAX = 3
/** The NameNode hands a dead DataNode out until it believes it: minutes, by default ten and a half. */
const SUSPECT_MS = 120_000
const SUSPECTS_MAX = 64
const READ_RESUMES_MAX = 3

const length = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const fileStatus = v.object({ type: v.picklist(['FILE', 'DIRECTORY', 'SYMLINK']), length, modificationTime: v.number(), pathSuffix: v.optional(v.string(), '') })
const statusSchema = v.object({ FileStatus: fileStatus })
const listSchema = v.object({ FileStatuses: v.object({ FileStatus: v.array(fileStatus) }) })
const booleanSchema = v.object({ boolean: v.boolean() })
const checksumSchema = v.object({ FileChecksum: v.object({ algorithm: v.string(), bytes: v.string() }) })

export function createWebHdfsStore(system: Pick<System, 'clock' | 'random' | 'log'>, transport: WebHdfsTransport, options: WebHdfsOptions): RemoteStore {
  return new WebHdfsStore(system, transport, options)
}

class WebHdfsStore implements RemoteStore {
  readonly description: string
  private readonly system: Pick<System, 'clock' | 'random' | 'log'>
  private readonly client: WebHdfsClient
  private readonly streamingHttp: HttpClient
  /** DataNode host → until when it is left out. */
  private readonly suspects = new Map<string, number>()
  private hasChecksums = true

  constructor(system: Pick<System, 'clock' | 'random' | 'log'>, transport: WebHdfsTransport, options: WebHdfsOptions) {
    this.system = system
    this.client = new WebHdfsClient(system, transport, options)
    this.streamingHttp = transport.streamingHttp
    this.description = `${options.nameNodes.join(',')}${options.root}`
  }

  async put(path: string, source: ByteSource, options: { signal?: AbortSignal } = {}): Promise<void> {
    const call: WebHdfsCall = {
      method: 'PUT',
      op: 'CREATE',
      path,
      params: {
        overwrite: 'false',
        permission: '644',
        blocksize: String(blockSizeFor(source.lengthBytes)),
        ...(this.client.options.mode === 'httpfs' ? { data: 'true' } : { noredirect: 'true' }),
      },
      isRepeatable: true,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    }
    if (this.client.options.mode === 'httpfs') await this.putToHttpFs(call, source)
    else await this.putToDataNode(call, source)
  }

  private async putToHttpFs(call: WebHdfsCall, source: ByteSource): Promise<void> {
    // HttpFS 3.4 is not trusted to honour overwrite=false under every proxy in front of it: look first.
    if ((await this.stat(call.path)) !== undefined) throw new AppError('CONFLICT', `${describe(this.client.options, call)}: exists`)
    try {
      await this.upload(await this.client.activeTarget(call), call, source)
    } catch (error) {
      if (toAppError(error).code === 'CANNOT_CONNECT') this.client.reportUnreachable()
      throw error
    }
  }

  private async putToDataNode(call: WebHdfsCall, source: ByteSource): Promise<void> {
    for (let tried = 1; ; tried += 1) {
      const answer = await this.callAvoidingSuspects(call)
      if (answer.kind !== 'redirect') {
        await readBody(answer.response, SMALL_BODY_BYTES_MAX)
        throw new AppError('REMOTE_ERROR', `${describe(this.client.options, call)}: the server named no DataNode`, {
          hint: 'if this is HttpFS or a gateway that takes data itself, set hdfsMode: httpfs',
        })
      }
      try {
        await this.upload({ url: answer.url, headers: {} }, call, source)
        return
      } catch (error) {
        const { code } = toAppError(error)
        if (code === 'CANNOT_CONNECT' || code === 'UNKNOWN_OUTCOME') this.suspect(new URL(answer.url).hostname)
        // Nothing was created: the same name may be tried elsewhere. Every other failure may have left a file.
        if (code !== 'CANNOT_CONNECT' || tried >= DATA_NODES_TRIED_MAX) throw error
      }
    }
  }

  private async upload(target: { url: string; headers: Readonly<Record<string, string>> }, call: WebHdfsCall, source: ByteSource): Promise<void> {
    const request: HttpRequest = {
      method: 'PUT',
      url: target.url,
      headers: { 'content-type': 'application/octet-stream', 'x-xsrf-header': 'tailrace', ...target.headers },
      // The client asks for a piece when the one before it has left.
      body: { length: source.lengthBytes, stream: source.peek?.() ?? source.open() },
      // A DataNode answers only when every replica has the last packet.
      headersTimeoutMs: 60_000,
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    }
    await readBody(await this.client.askDataNode(request, call), SMALL_BODY_BYTES_MAX)
  }

  /** Excluded by bare host: with the HTTP port behind it Hadoop ignores the exclusion. */
  private async callAvoidingSuspects(call: WebHdfsCall): Promise<CallAnswer> {
    const nowMs = this.system.clock.monotonicMs()
    for (const [host, untilMs] of this.suspects) if (untilMs <= nowMs) this.suspects.delete(host)
    if (this.suspects.size === 0) return this.client.call(call)
    try {
      return await this.client.call({ ...call, params: { ...call.params, excludedatanodes: [...this.suspects.keys()].join(',') } })
    } catch (error) {
      // A NameNode with nobody left to name says so with a bare IOException: better a suspect than nobody.
      if (toAppError(error).code !== 'REMOTE_ERROR') throw error
      this.suspects.clear()
      return this.client.call(call)
    }
  }

  private suspect(host: string): void {
    if (this.suspects.size >= SUSPECTS_MAX) this.suspects.clear()
    this.suspects.set(host, this.system.clock.monotonicMs() + SUSPECT_MS)
    this.system.log.warn('leaving a DataNode out for a while', { host })
  }

  async stat(path: string): Promise<RemoteStat | undefined> {
    try {
      const { FileStatus } = await this.client.json({ method: 'GET', op: 'GETFILESTATUS', path, isRepeatable: true }, statusSchema)
      return toStat(FileStatus)
    } catch (error) {
      return undefinedIfMissing(error)
    }
  }

  async list(path: string): Promise<readonly RemoteName[]> {
    try {
      const answer = await this.client.json({ method: 'GET', op: 'LISTSTATUS', path, isRepeatable: true }, listSchema, LIST_BODY_BYTES_MAX)
      return answer.FileStatuses.FileStatus.map((status) => ({ name: status.pathSuffix, ...toStat(status) }))
    } catch (error) {
      return undefinedIfMissing(error) ?? []
    }
  }

  async rename(from: string, to: string): Promise<boolean> {
    // HDFS moves a file into a directory of that name and calls it a success: only a file's own name will do.
    if ((await this.stat(to)) !== undefined) return false
    const destination = absolutePath(this.client.options, to)
    try {
      const answer = await this.client.json({ method: 'PUT', op: 'RENAME', path: from, params: { destination }, isRepeatable: false }, booleanSchema)
      return answer.boolean
    } catch (error) {
      const { code } = toAppError(error)
      if (code === 'NOT_FOUND' || code === 'CONFLICT') return false
      throw error
    }
  }

  async remove(path: string): Promise<boolean> {
    // Names of ours are used once, so a second DELETE can only meet nothing.
    const answer = await this.client.json({ method: 'DELETE', op: 'DELETE', path, params: { recursive: 'false' }, isRepeatable: true }, booleanSchema)
    return answer.boolean
  }

  async makeDirectories(path: string): Promise<void> {
    const { boolean: isMade } = await this.client.json({ method: 'PUT', op: 'MKDIRS', path, params: { permission: '755' }, isRepeatable: true }, booleanSchema)
    if (!isMade) throw new AppError('REMOTE_REFUSED', `MKDIRS ${absolutePath(this.client.options, path)} answered false`)
  }

  async *read(path: string, range: { offset: number; length: number; signal?: AbortSignal }): AsyncGenerator<Uint8Array> {
    const end = range.offset + range.length
    let at = range.offset
    for (let resumes = 0; at < end; ) {
      try {
        for await (const piece of this.readOnce(path, { ...range, offset: at, length: end - at })) {
          at += piece.length
          yield piece
        }
        return
      } catch (error) {
        // A DataNode that dies in the middle: the rest comes from another.
        resumes += 1
        const { code } = toAppError(error)
        if (resumes > READ_RESUMES_MAX || (code !== 'UNKNOWN_OUTCOME' && code !== 'CANNOT_CONNECT')) throw error
      }
    }
  }

  private async *readOnce(path: string, range: { offset: number; length: number; signal?: AbortSignal }): AsyncGenerator<Uint8Array> {
    const { response, url } = await this.open(path, range)
    let left = range.length
    try {
      for await (const piece of response.body) {
        left -= piece.length
        if (left < 0) throw new AppError('REMOTE_ERROR', `OPEN ${absolutePath(this.client.options, path)} gave more bytes than asked for`)
        yield piece
      }
    } catch (error) {
      if (toAppError(error).code === 'UNKNOWN_OUTCOME' && url !== undefined) this.suspect(new URL(url).hostname)
      throw error
    }
    // Hadoop clamps a range to what is there: fewer bytes and no error mean that the file ends, or that a node hung up.
    if (left === 0) return
    const stat = await this.stat(path)
    const isBehindEnd = stat === undefined || stat.lengthBytes < range.offset + range.length
    throw new AppError(isBehindEnd ? 'OFFSET_OUT_OF_RANGE' : 'UNKNOWN_OUTCOME', `OPEN ${absolutePath(this.client.options, path)} gave ${left} bytes too few`)
  }

  private async open(path: string, range: { offset: number; length: number; signal?: AbortSignal }): Promise<{ response: HttpResponse; url: string | undefined }> {
    const call: WebHdfsCall = {
      method: 'GET',
      op: 'OPEN',
      path,
      params: {
        offset: String(range.offset),
        length: String(range.length),
        ...(this.client.options.mode === 'webhdfs' ? { noredirect: 'true' } : {}),
      },
      isRepeatable: true,
      ...(range.signal === undefined ? {} : { signal: range.signal }),
    }
    return this.readAvoidingSuspects(call)
  }

  /** What a DataNode answers to a read; one that does not is left out from then on. */
  private async readAvoidingSuspects(call: WebHdfsCall): Promise<{ response: HttpResponse; url: string | undefined }> {
    const answer = await this.callAvoidingSuspects(call)
    if (answer.kind === 'answer') return { response: answer.response, url: undefined }
    try {
      return { response: await this.client.getFrom(answer.url, call), url: answer.url }
    } catch (error) {
      const { code } = toAppError(error)
      if (code === 'CANNOT_CONNECT' || code === 'UNKNOWN_OUTCOME') this.suspect(new URL(answer.url).hostname)
      throw error
    }
  }

  /** A guess of the cluster's settings: where it is wrong, `matches` computes the checksum anew. */
  fingerprint(lengthBytes: number): ContentHasher {
    return checksumHasher({ bytesPerCrc: BYTES_PER_CRC, blockBytes: lengthBytes <= BLOCK_BYTES_MAX ? undefined : BLOCK_BYTES_MAX })
  }

  async matches(path: string, expected: ExpectedContent): Promise<ContentMatch> {
    const stat = await this.stat(path)
    if (stat === undefined) return 'missing'
    if (stat.kind !== 'file' || stat.lengthBytes !== expected.lengthBytes) return 'length'
    if (stat.lengthBytes === 0) return 'same'
    const remote = expected.source === undefined ? undefined : await this.remoteChecksum(path)
    if (remote === undefined || expected.source === undefined) return matchesByReading(this, path, expected)
    const { fingerprint } = expected
    if (fingerprint !== undefined && hasLayout(fingerprint, remote)) return fingerprint === formatChecksum(remote) ? 'same' : 'checksum'
    const local = await hdfsMd5(expected.source, remote)
    // A local twin that has changed itself vouches for nothing.
    return local.md5 === remote.md5 && local.sha256 === expected.sha256 ? 'same' : 'checksum'
  }

  private async remoteChecksum(path: string): Promise<ReturnType<typeof parseHdfsChecksum>> {
    if (!this.hasChecksums) return undefined
    const params = this.client.options.mode === 'webhdfs' ? { params: { noredirect: 'true' } } : {}
    const call: WebHdfsCall = { method: 'GET', op: 'GETFILECHECKSUM', path, ...params, isRepeatable: true }
    for (let tried = 1; ; tried += 1) {
      try {
        const { response } = await this.readAvoidingSuspects(call)
        const answer = parseBody(await readBody(response, SMALL_BODY_BYTES_MAX), checksumSchema, describe(this.client.options, call))
        return parseHdfsChecksum(answer.FileChecksum)
      } catch (error) {
        const failure = toAppError(error)
        // Another DataNode that holds the file may answer at once.
        if ((failure.code === 'CANNOT_CONNECT' || failure.code === 'UNKNOWN_OUTCOME') && tried < DATA_NODES_TRIED_MAX) continue
        if (failure.code !== 'REMOTE_REFUSED') throw error
        this.noticeNoChecksums(failure)
        return undefined
      }
    }
  }

  private noticeNoChecksums(failure: AppError): void {
    // Ozone's HttpFS has no checksums; reading back proves the same at a price.
    this.hasChecksums = false
    this.system.log.warn('the store has no file checksums: uploads are read back instead', { reason: failure.message })
  }

  close(): Promise<void> {
    this.client.close()
    return this.streamingHttp.close()
  }
}

/** A whole number of MiB (HDFS wants a multiple of 512 and at least 1 MiB), one block where it fits. */
function blockSizeFor(lengthBytes: number): number {
  return Math.min(BLOCK_BYTES_MAX, Math.max(MIB, Math.ceil(lengthBytes / MIB) * MIB))
}

function toStat(status: v.InferOutput<typeof fileStatus>): RemoteStat {
  return { kind: status.type === 'DIRECTORY' ? 'directory' : 'file', lengthBytes: status.length, modifiedMs: status.modificationTime }
}

function undefinedIfMissing(error: unknown): undefined {
  if (toAppError(error).code === 'NOT_FOUND') return undefined
  throw error
}
