import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { hashToken } from '../../../collector/http/auth.ts'
import { createToken, loadTokens, revokeToken } from '../../../collector/http/tokens.ts'
import { nodeFileSystem } from '../../../shared/node/file-system.ts'
import type { System } from '../../../shared/system.ts'
import { simulate } from '../../sim-system.ts'

let folder: string
let system: System

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-tokens-'))
  system = { ...simulate().system, fs: nodeFileSystem() }
})

afterEach(async () => {
  await rm(folder, { recursive: true, force: true })
})

test('a token is shown once and kept only as a hash, in a file for its owner alone', async () => {
  const { token, id } = await createToken(system, folder, { role: 'agent', agentId: 'a', host: 'h' })
  expect(token).toMatch(/^tr_[A-Za-z0-9_-]{43}$/)
  const text = await readFile(join(folder, 'tokens.json'), 'utf8')
  expect(text).not.toContain(token.slice(3))
  expect((await stat(join(folder, 'tokens.json'))).mode & 0o777).toBe(0o600)
  expect(await loadTokens(system, folder)).toEqual([
    { id, role: 'agent', agentId: 'a', host: 'h', createdMs: system.clock.nowMs(), hash: hashToken(token) },
  ])
})

test('revoking removes one token and leaves the others', async () => {
  const first = await createToken(system, folder, { role: 'read' })
  const second = await createToken(system, folder, { role: 'admin' })
  await revokeToken(system, folder, first.id)
  expect((await loadTokens(system, folder)).map(({ id }) => id)).toEqual([second.id])
  await expect(revokeToken(system, folder, first.id)).rejects.toMatchObject({ code: 'NOT_FOUND' })
})

test('without a file there are no tokens; one that others can read, or a damaged one, is refused', async () => {
  expect(await loadTokens(system, folder)).toEqual([])
  await createToken(system, folder, { role: 'read' })
  await chmod(join(folder, 'tokens.json'), 0o640)
  await expect(loadTokens(system, folder)).rejects.toMatchObject({ code: 'INVALID_CONFIG', hint: expect.stringContaining('chmod 600') as string })
  await chmod(join(folder, 'tokens.json'), 0o600)
  await writeFile(join(folder, 'tokens.json'), '{"version":1,"tokens":[{"role":"root"}]}')
  await expect(loadTokens(system, folder)).rejects.toMatchObject({ code: 'INVALID_CONFIG' })
})
