import { readFileSync } from 'node:fs'
import * as https from 'node:https'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { jsonResponse } from '../../shared/http-body.ts'
import { serveHttp, type RunningServer, type ServerTls } from '../../shared/http-server.ts'
import { SimClock, SimLog } from '../sim-system.ts'

let server: RunningServer

beforeEach(async () => {
  const options = { host: '127.0.0.1', port: 0, clock: new SimClock(0), log: new SimLog(), tls: serverTls }
  server = await serveHttp((request) => Promise.resolve(jsonResponse(request.certificateNames)), options)
})

afterEach(async () => {
  await server.close({ drainMs: 0 })
})

function pem(name: string): string {
  return readFileSync(new URL(`./certificates/${name}`, import.meta.url), 'utf8')
}

const serverTls: ServerTls = { cert: pem('server.crt'), key: pem('server.key'), clientCa: pem('ca.crt') }

function ask(options: https.RequestOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = https.request({ host: '127.0.0.1', port: server.port, servername: 'localhost', ca: pem('ca.crt'), agent: false, ...options }, (response) => {
      let text = ''
      response.on('data', (piece: Buffer) => (text += piece.toString()))
      response.on('end', () => resolve(text.trim()))
    })
    request.on('error', reject)
    request.end()
  })
}

test('a verified client certificate gives its common name and its DNS names', async () => {
  expect(JSON.parse(await ask({ cert: pem('agent.crt'), key: pem('agent.key') }))).toEqual(['agent-1', 'web-1', 'web-1.example'])
})

test('a certificate of an authority that we do not trust gives no name, however it calls itself', async () => {
  expect(await ask({ cert: pem('stranger.crt'), key: pem('stranger.key') })).toBe('[]')
})

test('who has no certificate is let in without a name: a token may still tell who it is', async () => {
  expect(await ask({})).toBe('[]')
})

test('TLS below 1.3 is refused', async () => {
  await expect(ask({ maxVersion: 'TLSv1.2' })).rejects.toThrow(/protocol version|EPROTO/)
})

test('a reloaded certificate is the one that the next connection sees', async () => {
  server.reloadTls({ cert: pem('stranger.crt'), key: pem('stranger.key') })
  await expect(ask({})).rejects.toThrow(/certificate|altnames/i)
  server.reloadTls(serverTls)
  expect(await ask({})).toBe('[]')
})
