/**
 * The benchmark's own sink, a process of its own: `bench-sink http|tcp PORT FILE` writes what arrives into the file,
 * decompressed, and answers 200. It fsyncs nothing: a peer that writes here is not charged for durability.
 */
import { once } from 'node:events'
import { createWriteStream, type WriteStream } from 'node:fs'
import { createServer as createHttpServer, type IncomingMessage } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import type { Readable, Transform } from 'node:stream'
import zlib from 'node:zlib'

const NEWLINE = Buffer.from('\n')

const decoders: Readonly<Record<string, (() => Transform) | undefined>> = {
  gzip: () => zlib.createGunzip(),
  deflate: () => zlib.createInflate(),
  br: () => zlib.createBrotliDecompress(),
  zstd: () => {
    // Node ≥ 22.15 has it; the types are those of Node 20.
    const make: unknown = Reflect.get(zlib, 'createZstdDecompress')
    if (typeof make !== 'function') throw new Error('this Node has no zstd: run the benchmark on Node 24')
    return make.call(zlib) as Transform
  },
}

function main([kind, port, path]: readonly string[]): void {
  if ((kind !== 'http' && kind !== 'tcp') || port === undefined || path === undefined) {
    process.stderr.write('usage: bench-sink http|tcp PORT FILE\n')
    process.exitCode = 2
    return
  }
  const file = createWriteStream(path, { flags: 'a' })
  if (kind === 'tcp') createTcpServer((socket) => void storeLines(socket, file).catch(() => socket.destroy())).listen(Number(port), '127.0.0.1')
  else listenHttp(Number(port), file)
}

function listenHttp(port: number, file: WriteStream): void {
  createHttpServer((incoming, answer) => {
    storeBody(incoming, file)
      .then(() => answer.writeHead(200, { 'content-type': 'application/json' }).end('{}'))
      .catch((error: unknown) => answer.writeHead(400).end(String(error)))
  }).listen(port, '127.0.0.1')
}

/** A body is written as a whole: connections must not mix within a line. */
async function storeBody(incoming: IncomingMessage, file: WriteStream): Promise<void> {
  const pieces: Buffer[] = []
  for await (const piece of decoded(incoming)) pieces.push(piece as Buffer)
  await write(file, Buffer.concat([...pieces, NEWLINE]))
}

function decoded(incoming: IncomingMessage): Readable {
  const encoding = incoming.headers['content-encoding'] ?? 'identity'
  if (encoding === 'identity') return incoming
  const make = decoders[encoding]
  if (make === undefined) throw new Error(`content-encoding ${encoding} is not known`)
  return incoming.pipe(make())
}

async function storeLines(source: Readable, file: WriteStream): Promise<void> {
  let rest: Buffer = Buffer.alloc(0)
  for await (const piece of source) {
    const bytes = Buffer.concat([rest, piece as Buffer])
    const end = bytes.lastIndexOf(NEWLINE) + 1
    rest = bytes.subarray(end)
    if (end > 0) await write(file, bytes.subarray(0, end))
  }
  await write(file, rest)
}

async function write(file: WriteStream, bytes: Buffer): Promise<void> {
  if (!file.write(bytes)) await once(file, 'drain')
}

main(process.argv.slice(2))
