/**
 * From the body of `POST /v1/topics/<topic>/lines` to lines: content encoding, content type, splitting. Bytes stay as
 * they are; a `\r` is part of its line, and the last line needs no newline.
 */
import { gunzip } from 'node:zlib'
import { AppError } from '../../shared/errors.ts'
import { contentTypes } from '../../shared/wire.ts'
import type { Zstd } from '../../shared/zstd.ts'

/** Lines of one request, decompressed: one request is one batch, so that it is stored whole or not at all. */
export const LINES_BYTES_MAX = 1024 * 1024
/** A single line, as an agent would cut it. */
export const LINE_BYTES_MAX = 512 * 1024
const NEWLINE = 0x0a

const plainTypes = new Set(['', 'text/plain', 'application/octet-stream', 'application/x-www-form-urlencoded'])

/**
 * Throws UNSUPPORTED_MEDIA_TYPE, MESSAGE_TOO_LARGE, or BAD_REQUEST with the line that is not JSON. `form-urlencoded` is
 * taken as plain lines, since that is what curl sends unless told otherwise.
 */
export async function readLines(body: Buffer, headers: ReadonlyMap<string, string>, zstd: Zstd): Promise<readonly Buffer[]> {
  const type = (headers.get('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
  const isJson = type === contentTypes.ndjson || type === 'application/ndjson' || type === 'application/jsonl'
  if (!isJson && !plainTypes.has(type)) {
    throw new AppError('UNSUPPORTED_MEDIA_TYPE', `${type.slice(0, 100)} is not taken here`, { hint: `text/plain or ${contentTypes.ndjson}` })
  }
  const content = await decode(body, headers.get('content-encoding')?.trim().toLowerCase() ?? 'identity', zstd)
  const lines = splitLines(content)
  return isJson ? checkJson(lines) : lines
}

async function decode(body: Buffer, encoding: string, zstd: Zstd): Promise<Buffer> {
  if (encoding === 'gzip') return inflate(body)
  if (encoding === 'zstd') return zstd.decompressSync(body, LINES_BYTES_MAX)
  if (encoding !== 'identity') {
    throw new AppError('UNSUPPORTED_MEDIA_TYPE', `content encoding ${encoding.slice(0, 100)} is not known`, { hint: 'gzip or zstd' })
  }
  if (body.length > LINES_BYTES_MAX) throw tooLarge()
  return body
}

function inflate(body: Buffer): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    gunzip(body, { maxOutputLength: LINES_BYTES_MAX }, (error, content) => {
      if (error === null) resolve(content)
      else if (Reflect.get(error, 'code') === 'ERR_BUFFER_TOO_LARGE') reject(tooLarge())
      else reject(new AppError('BAD_REQUEST', 'the body is not valid gzip', { cause: error }))
    })
  })
}

function tooLarge(): AppError {
  return new AppError('MESSAGE_TOO_LARGE', `the lines of one request may have ${LINES_BYTES_MAX} bytes, decompressed`, {
    hint: 'send them in several requests',
  })
}

function splitLines(content: Buffer): readonly Buffer[] {
  const lines: Buffer[] = []
  for (let at = 0; at < content.length; ) {
    const newline = content.indexOf(NEWLINE, at)
    const end = newline < 0 ? content.length : newline
    if (end - at > LINE_BYTES_MAX) {
      throw new AppError('MESSAGE_TOO_LARGE', `line ${lines.length + 1} has ${end - at} bytes, over ${LINE_BYTES_MAX}`)
    }
    lines.push(content.subarray(at, end))
    at = end + 1
  }
  return lines
}

/** Blank lines stand for nothing in NDJSON; everything else must parse, or readers would meet it later. */
function checkJson(lines: readonly Buffer[]): readonly Buffer[] {
  return lines.filter((line, index) => {
    const text = line.toString('utf8')
    if (text.trim() === '') return false
    try {
      JSON.parse(text)
    } catch (error) {
      throw new AppError('BAD_REQUEST', `line ${index + 1} is not JSON`, { cause: error, hint: 'send text/plain to store lines as they are' })
    }
    return true
  })
}
