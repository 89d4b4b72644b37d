/**
 * Bodies on both sides of a handler: reading a request's with a cap that holds before memory is taken, and the usual
 * answers. Knows no sockets.
 */
import { AppError, toAppError } from './errors.ts'
import type { ServerRequest, ServerResponse } from './http-handler.ts'
import { contentTypes } from './wire.ts'

/** Seconds that a client is told to stay away when the error itself does not say. */
const RETRY_AFTER_MS = 1000

/** Refuses with MESSAGE_TOO_LARGE by the announced length alone, before a byte is read. */
function checkContentLength(request: Pick<ServerRequest, 'contentLength'>, bytesMax: number): void {
  if (request.contentLength !== undefined && request.contentLength > bytesMax) throw tooLarge(request.contentLength, bytesMax)
}

/**
 * The whole body, at most `bytesMax`. Throws MESSAGE_TOO_LARGE, or BAD_REQUEST when the client gave up. `allocate` gives the
 * memory of a body whose length is known, of exactly the size asked for.
 */
export async function readBody(request: ServerRequest, bytesMax: number, allocate: (bytes: number) => Buffer = (bytes) => Buffer.allocUnsafe(bytes)): Promise<Buffer> {
  checkContentLength(request, bytesMax)
  if (request.contentLength !== undefined) return readKnown(request, allocate(request.contentLength))
  const pieces: Uint8Array[] = []
  let length = 0
  for await (const piece of request.body) {
    length += piece.length
    if (length > bytesMax) throw tooLarge(length, bytesMax)
    pieces.push(piece)
  }
  return Buffer.concat(pieces, length)
}

/** One buffer of the body's size, filled as the bytes come: nothing is held twice. */
async function readKnown(request: ServerRequest, body: Buffer): Promise<Buffer> {
  const { length } = body
  let at = 0
  for await (const piece of request.body) {
    if (piece.length > length - at) throw new AppError('BAD_REQUEST', 'the body is longer than its Content-Length')
    body.set(piece, at)
    at += piece.length
  }
  if (at !== length) throw new AppError('BAD_REQUEST', `the body ended after ${at} of ${length} bytes`)
  return body
}

function tooLarge(bytes: number, bytesMax: number): AppError {
  return new AppError('MESSAGE_TOO_LARGE', `a body of ${bytes} bytes is over ${bytesMax}`, { hint: 'send it in smaller parts' })
}

export function jsonResponse(value: unknown, status = 200): ServerResponse {
  return { status, headers: { 'content-type': contentTypes.json }, body: `${JSON.stringify(value)}\n` }
}

export function textResponse(text: string, options: { status?: number; contentType?: string } = {}): ServerResponse {
  return { status: options.status ?? 200, headers: { 'content-type': options.contentType ?? contentTypes.text }, body: text }
}

/** Any thrown value as an answer. What is not an AppError keeps its words to itself: they may hold paths or data. */
export function errorResponse(thrown: unknown): ServerResponse {
  const error = toAppError(thrown)
  const body = {
    error: {
      code: error.code,
      message: error.code === 'INTERNAL' ? 'something went wrong inside the server; its log says what' : error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      retryable: error.retryable,
    },
  }
  return { ...jsonResponse(body, error.httpStatus), headers: { 'content-type': contentTypes.json, ...retryAfter(error) } }
}

function retryAfter(error: AppError): Record<string, string> {
  if (!error.retryable) return {}
  return { 'retry-after': String(Math.max(1, Math.ceil((error.retryAfterMs ?? RETRY_AFTER_MS) / 1000))) }
}
