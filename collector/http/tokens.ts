/**
 * The token file, `<data>/tokens.json`, mode 0600: SHA-256 of each token, never the token. Written whole to a temporary
 * file, synced, renamed: a crash leaves the old one or the new one. One process writes at a time (the command line
 * tool); the collector only reads, at start and on SIGHUP.
 */
import { join } from 'node:path'
import * as v from 'valibot'
import { AppError, errnoOf } from '../../shared/errors.ts'
import { readTextFile, writeFileDurably } from '../../shared/files.ts'
import type { System } from '../../shared/system.ts'
import { parseJson } from '../../shared/wire.ts'
import { hashToken } from './auth.ts'

export type StoredToken = {
  /** Public name of the token: for lists and for revoking. */
  readonly id: string
  readonly hash: Buffer
  readonly createdMs: number
} & ({ readonly role: 'agent'; readonly agentId: string; readonly host: string } | { readonly role: 'read' | 'admin' })

export type TokenGrant = { readonly role: 'agent'; readonly agentId: string; readonly host: string } | { readonly role: 'read' | 'admin' }

const FILE_NAME = 'tokens.json'
const FILE_BYTES_MAX = 16 * 1024 * 1024
const TOKENS_MAX = 50_000
const TOKEN_BYTES = 32
const ID_BYTES = 6

const name = v.pipe(v.string(), v.minLength(1), v.maxLength(4096))
const common = {
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{12}$/)),
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  createdMs: v.pipe(v.number(), v.safeInteger()),
}
const fileSchema = v.object({
  version: v.literal(1),
  tokens: v.pipe(
    v.array(
      v.variant('role', [
        v.object({ ...common, role: v.literal('agent'), agentId: name, host: name }),
        v.object({ ...common, role: v.literal('read') }),
        v.object({ ...common, role: v.literal('admin') }),
      ]),
    ),
    v.maxLength(TOKENS_MAX),
  ),
})

/** Empty when there is no file. Throws INVALID_CONFIG for a file that others may read, or that is damaged. */
export async function loadTokens(system: System, dataDirectory: string): Promise<readonly StoredToken[]> {
  const path = join(dataDirectory, FILE_NAME)
  const stat = await system.fs.stat(path)
  if (stat === undefined) return []
  if ((stat.mode & 0o077) !== 0) {
    throw new AppError('INVALID_CONFIG', `${path} can be read by others`, { hint: `chmod 600 ${path}` })
  }
  try {
    const text = await readTextFile(system.fs, path, FILE_BYTES_MAX)
    return parseJson(fileSchema, text, path).tokens.map(({ sha256, ...token }) => ({ ...token, hash: Buffer.from(sha256, 'hex') }))
  } catch (error) {
    if (errnoOf(error) !== undefined) throw error
    throw new AppError('INVALID_CONFIG', `${path} is damaged`, { cause: error, hint: 'restore it, or remove it and make new tokens' })
  }
}

/** Adds a token and answers it: the only time that it can be seen. */
export async function createToken(system: System, dataDirectory: string, grant: TokenGrant): Promise<{ token: string; id: string }> {
  const tokens = await loadTokens(system, dataDirectory)
  if (tokens.length >= TOKENS_MAX) throw new AppError('CONFLICT', `there are ${TOKENS_MAX} tokens already`, { hint: 'revoke some' })
  const id = system.random.bytes(ID_BYTES).toString('hex')
  const token = `tr_${system.random.bytes(TOKEN_BYTES).toString('base64url')}`
  const added: StoredToken = { id, hash: hashToken(token), createdMs: system.clock.nowMs(), ...grant }
  await saveTokens(system, dataDirectory, [...tokens, added])
  return { token, id }
}

/** Throws NOT_FOUND. A running collector forgets it on its next SIGHUP or start. */
export async function revokeToken(system: System, dataDirectory: string, id: string): Promise<void> {
  const tokens = await loadTokens(system, dataDirectory)
  const rest = tokens.filter((token) => token.id !== id)
  if (rest.length === tokens.length) throw new AppError('NOT_FOUND', `there is no token ${JSON.stringify(id)}`)
  await saveTokens(system, dataDirectory, rest)
}

async function saveTokens(system: System, dataDirectory: string, tokens: readonly StoredToken[]): Promise<void> {
  const file = { version: 1, tokens: tokens.map(({ hash, ...token }) => ({ ...token, sha256: hash.toString('hex') })) }
  await system.fs.makeDirectory(dataDirectory)
  await writeFileDurably(system.fs, join(dataDirectory, FILE_NAME), Buffer.from(`${JSON.stringify(file, undefined, 2)}\n`), { permissions: 0o600 })
}
