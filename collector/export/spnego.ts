/**
 * Kerberos over HTTP (SPNEGO) for NameNodes and HttpFS: a token per request until the server gives its signed cookie,
 * then that. DataNodes need none: the NameNode puts a token of its own into each redirect.
 *
 * The tickets are GSSAPI's business: from the cache of `kinit`, or by itself from the keytab that KRB5_CLIENT_KTNAME
 * names, renewed as needed. The npm package `kerberos` is native and few need it, so it is loaded on first use and is no
 * dependency of ours. Calls may run at the same time. Tokens and cookies are never logged nor put into an error.
 */
import * as v from 'valibot'
import { AppError, BugError } from '../../shared/errors.ts'
import type { HttpResponse } from '../../shared/system.ts'

/** Resolves with the package, as `import` gives it. */
export type LoadKerberos = () => Promise<unknown>

const TOKEN_CHARACTERS_MAX = 64 * 1024
const COOKIE_CHARACTERS_MAX = 8 * 1024

const method = v.custom<(...args: readonly unknown[]) => Promise<unknown>>((value) => typeof value === 'function')
const packageSchema = v.object({ initializeClient: method, GSS_MECH_OID_SPNEGO: v.optional(v.number()) })
const clientSchema = v.object({ step: method })
const tokenSchema = v.pipe(v.string(), v.maxLength(TOKEN_CHARACTERS_MAX), v.regex(/^[A-Za-z0-9+/]+={0,2}$/))

export class Negotiator {
  private readonly load: LoadKerberos
  /** Origin of a server → `hadoop.auth=…`, at most one for each NameNode of the settings. */
  private readonly cookies = new Map<string, string>()

  constructor(load: LoadKerberos = importKerberos) {
    this.load = load
  }

  async headersFor(url: string): Promise<Readonly<Record<string, string>>> {
    const { origin, hostname } = new URL(url)
    const cookie = this.cookies.get(origin)
    if (cookie !== undefined) return { cookie }
    return { authorization: `Negotiate ${await this.tokenFor(`HTTP@${hostname}`)}` }
  }

  /** Keeps the cookie that spares us the next tokens. */
  notice(url: string, { headers }: HttpResponse): void {
    const cookie = /(?:^|[,;]\s*)(hadoop\.auth=(?:"[^"]*"|[^;,\s]*))/.exec(headers.get('set-cookie') ?? '')?.[1]
    // An empty one takes the cookie away: what a refused token is answered with.
    if (cookie === undefined || cookie.length > COOKIE_CHARACTERS_MAX || /^hadoop\.auth="?"?$/.test(cookie)) return
    this.cookies.set(new URL(url).origin, cookie)
  }

  /** The server refused what we showed: whether that was a cookie, so that a fresh token is worth a try. */
  forget(url: string): boolean {
    return this.cookies.delete(new URL(url).origin)
  }

  private async tokenFor(service: string): Promise<string> {
    const kerberos = await this.kerberos()
    try {
      const { GSS_MECH_OID_SPNEGO: mechOID } = kerberos
      const client = await kerberos.initializeClient(service, mechOID === undefined ? {} : { mechOID })
      // Looked at, not copied: the methods are native and want their own object.
      const token = v.is(clientSchema, client) ? await client.step('') : undefined
      if (v.is(tokenSchema, token)) return token
      throw new AppError('REMOTE_REFUSED', 'the package kerberos gave no token')
    } catch (error) {
      if (error instanceof BugError) throw error
      throw new AppError('REMOTE_REFUSED', `no Kerberos ticket for ${service}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
        hint: 'run kinit as the user of this process, or name a keytab in KRB5_CLIENT_KTNAME',
      })
    }
  }

  private async kerberos(): Promise<v.InferOutput<typeof packageSchema>> {
    let loaded: unknown
    try {
      loaded = await this.load()
    } catch (error) {
      throw notInstalled(error)
    }
    // A CommonJS package may show its exports under `default` only.
    const candidates = v.is(v.object({ default: v.unknown() }), loaded) ? [loaded, loaded.default] : [loaded]
    for (const candidate of candidates) if (v.is(packageSchema, candidate)) return candidate
    throw notInstalled(new Error('the package kerberos has no initializeClient'))
  }
}

function notInstalled(cause: unknown): AppError {
  return new AppError('REMOTE_REFUSED', `Kerberos can't be used: ${cause instanceof Error ? (cause.message.split('\n', 1)[0] ?? '') : String(cause)}`, {
    cause,
    hint: 'install the npm package kerberos next to tailrace (npm install kerberos; it is built against libkrb5: libkrb5-dev on Debian, krb5-devel on Fedora), or use hdfsTokenFile',
  })
}

/** By a name that neither the bundler nor the type checker looks up: it need not be there. */
function importKerberos(): Promise<unknown> {
  const name: string = 'kerberos'
  return import(name)
}
