/** A stream whose last batches are on their way while a copy of its file is looked at: what came of them may change meanwhile. */
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Handles } from '../../agent/handles.ts'
import { Identifier } from '../../agent/identifier.ts'
import { Registry } from '../../agent/registry.ts'
import type { Session } from '../../agent/session.ts'
import { newIdentity, Stream } from '../../agent/stream.ts'
import { hashText, headHash, NO_TAIL_HASH_TEXT, tailHash } from '../../shared/hashes.ts'
import { nodeFileSystem } from '../../shared/node/file-system.ts'
import type { System } from '../../shared/system.ts'
import { overridden } from '../overridden.ts'
import { simulate } from '../sim-system.ts'
import { testConfig } from './agent-rig.ts'

test.each([
  { what: 'they were refused meanwhile: nothing is taken for stored', isRefused: true },
  { what: 'they are still on their way: the copy carries them on', isRefused: false },
])('$what', async ({ isRefused }) => {
  const folder = await mkdtemp(join(tmpdir(), 'tailrace-orphan-'))
  try {
    const path = join(folder, 'app.log.1')
    const content = Buffer.alloc(5000, 'a line of the copy\n')
    await writeFile(path, content)
    const fs = nodeFileSystem()
    const registry = new Registry({ lingerMs: 20, lingerMsMax: 250 })
    const keyPath = join(folder, 'app.log')
    const identity = newIdentity({ agentId: 'agent-1', topic: 'app', inode: 1n, birthtimeNs: 1n, generation: 1, supersedes: undefined, keyPath })
    // Nothing of it is stored yet; all of it was read.
    const stream = new Stream(identity, { position: 0, tailHash: NO_TAIL_HASH_TEXT, recordCount: 0 })
    const start = { position: content.length, tailHash: hashText(tailHash(content)), ordinal: 263, headLength: 1024, headHash: hashText(headHash(content.subarray(0, 1024))) }
    registry.orphans.set(identity.idHex, { stream, start })
    let reads = 0
    const system: System = {
      ...simulate().system,
      fs: {
        ...fs,
        open: async (at, mode, permissions) => {
          const handle = await fs.open(at, mode, permissions)
          const read: typeof handle.read = async (...args) => {
            reads += 1
            // The head was read before the collector was asked; now the tail is compared.
            if (reads > 1 && isRefused) registry.orphans.delete(identity.idHex)
            return handle.read(...args)
          }
          return overridden(handle, { read })
        },
      },
    }
    const [input] = testConfig({ input: { files: [keyPath] } }).inputs
    if (input === undefined) throw new Error('one input')
    const found = await fs.stat(path)
    if (found === undefined || (await stat(path)).size !== content.length) throw new Error('the copy is there')
    const file = registry.add({ input, path, openPath: path, stat: found, quietMs: 0 }, { nowMs: 0, isGuest: true, keyPath })
    const session = { call: () => Promise.resolve([[]]) } as unknown as Session
    const identifier = new Identifier({
      system, session, registry, handles: new Handles(system, 10), agentId: 'agent-1', isReship: false, isOnce: false, onAdopted: () => undefined,
    })
    await identifier.identify([file], new AbortController().signal)
    if (isRefused) {
      expect(file.cursor).toBeUndefined()
      expect(file.wantsIdentity).toBe(true)
    } else expect(file.cursor?.stream).toBe(stream)
    await file.handle?.close()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
})
