/**
 * Who is asking, and what they may do. Three ways: no authentication (loopback, or told so), bearer tokens, client
 * certificates. A token or certificate of an agent fixes its agent id and host; what it claims must be the same.
 *
 * The token file is in tokens.ts; this file only looks names up and compares.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { AppError } from '../../shared/errors.ts'
import type { ServerRequest } from '../../shared/http-handler.ts'
import type { StoredToken } from './tokens.ts'

/** `public`: no identity needed. `ingest`: agents and /lines. `read`: everything that changes nothing. `admin`: topics. */
export type Role = 'public' | 'ingest' | 'read' | 'admin'

/** What an agent's credential fixes. `undefined` in a Caller: any agent id and host are taken at their word. */
export interface AgentIdentity {
  isAgentId(agentId: string): boolean
  isHost(host: string): boolean
  /** For messages. */
  readonly description: string
}

export interface Caller {
  /** For messages and logs; never a secret. */
  readonly name: string
  readonly roles: ReadonlySet<Role>
  readonly identity: AgentIdentity | undefined
}

export interface AuthOptions {
  /** undefined: no tokens are asked for. Read anew for each request, so that a reload counts at once. */
  readonly tokens: (() => readonly StoredToken[]) | undefined
  /** Whether client certificates are asked for. */
  readonly hasCertificates: boolean
  /** Certificate names that may do everything, and those that may read. Others are agents. */
  readonly adminNames: readonly string[]
  readonly readNames: readonly string[]
}

const everything: ReadonlySet<Role> = new Set<Role>(['ingest', 'read', 'admin'])
const readOnly: ReadonlySet<Role> = new Set<Role>(['read'])
const ingestOnly: ReadonlySet<Role> = new Set<Role>(['ingest'])
const everyone: Caller = { name: 'anyone', roles: everything, identity: undefined }

/** Longer than any token of ours: what is longer is not hashed. */
const TOKEN_CHARACTERS_MAX = 200

export function createAuthenticator(options: AuthOptions): (request: ServerRequest) => Caller {
  return (request) => {
    const { tokens } = options
    if (tokens === undefined && !options.hasCertificates) return everyone
    const bearer = bearerOf(request)
    if (bearer !== undefined && tokens !== undefined) return callerOfToken(bearer, tokens())
    if (request.certificateNames.length > 0) return callerOfCertificate(request.certificateNames, options)
    throw new AppError('UNAUTHENTICATED', 'this collector wants to know who is asking', {
      hint: tokens === undefined ? 'use a client certificate' : 'send a token: --token-file, or TAILRACE_TOKEN',
    })
  }
}

/** Throws HOST_MISMATCH where the caller's credential is not for this agent and host. */
export function checkIdentity(caller: Caller, claimed: { agentId: string; host: string }): void {
  const { identity } = caller
  if (identity === undefined) return
  if (identity.isAgentId(claimed.agentId) && identity.isHost(claimed.host)) return
  throw mismatch(identity, `agent ${JSON.stringify(claimed.agentId)} on host ${JSON.stringify(claimed.host)}`)
}

/** `checkIdentity` where only an agent id is claimed. */
export function checkAgentId(caller: Caller, agentId: string): void {
  const { identity } = caller
  if (identity === undefined || identity.isAgentId(agentId)) return
  throw mismatch(identity, `agent ${JSON.stringify(agentId)}`)
}

function mismatch(identity: AgentIdentity, claimed: string): AppError {
  return new AppError('HOST_MISMATCH', `${identity.description} may not speak for ${claimed}`, {
    hint: 'make a token for this agent id and host: tailrace-collector token create',
  })
}

function bearerOf(request: ServerRequest): string | undefined {
  const match = /^Bearer +([A-Za-z0-9._~+/=-]+) *$/i.exec(request.headers.get('authorization') ?? '')
  return match?.[1]
}

/** SHA-256 as it is stored. A token has 256 random bits, so a plain hash can't be guessed backwards. */
export function hashToken(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest()
}

function callerOfToken(token: string, tokens: readonly StoredToken[]): Caller {
  const hash = token.length <= TOKEN_CHARACTERS_MAX ? hashToken(token) : undefined
  // Every token is compared, also after a hit: how long this takes says nothing about which one it was.
  let found: StoredToken | undefined
  for (const candidate of tokens) {
    if (hash !== undefined && timingSafeEqual(candidate.hash, hash)) found = candidate
  }
  if (found === undefined) throw new AppError('UNAUTHENTICATED', 'this token is not known here', { hint: 'it may have been revoked' })
  if (found.role !== 'agent') {
    return { name: `token ${found.id}`, roles: found.role === 'admin' ? everything : readOnly, identity: undefined }
  }
  const { agentId, host } = found
  return {
    name: `token ${found.id}`,
    roles: ingestOnly,
    identity: {
      isAgentId: (claimed) => claimed === agentId,
      isHost: (claimed) => claimed === host,
      description: `the token of agent ${JSON.stringify(agentId)} on host ${JSON.stringify(host)}`,
    },
  }
}

function callerOfCertificate(names: readonly string[], options: AuthOptions): Caller {
  const name = `certificate ${names[0] ?? ''}`
  if (names.some((known) => options.adminNames.includes(known))) return { name, roles: everything, identity: undefined }
  if (names.some((known) => options.readNames.includes(known))) return { name, roles: readOnly, identity: undefined }
  return {
    name,
    roles: ingestOnly,
    identity: {
      isAgentId: (claimed) => names.includes(claimed),
      isHost: (claimed) => names.includes(claimed),
      description: `the certificate of ${names.slice(0, 4).join(', ')}`,
    },
  }
}
