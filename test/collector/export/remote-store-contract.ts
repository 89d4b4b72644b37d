/**
 * What the exporter relies on, said of every RemoteStore: the local folder, the stand-in in all its flavours, and a real
 * Hadoop (test/real). Each test works in its own folder, so that one server serves a whole run.
 */
import { createHash, randomUUID } from 'node:crypto'
import { beforeEach, expect, test } from 'vitest'
import { toAppError } from '../../../shared/errors.ts'
import { bufferSource, type ByteSource, type RemoteStore } from '../../../collector/export/remote-store.ts'

export interface StoreUnderTest {
  readonly store: RemoteStore
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

export function patterned(lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes)
  for (let at = 0; at < lengthBytes; at += 1) bytes[at] = (at * 31 + (at >> 8) * 17) & 0xff
  return bytes
}

/** In pieces, as a file comes. */
export function piecewise(bytes: Buffer, pieceBytes = 64 * 1024): ByteSource {
  return {
    lengthBytes: bytes.length,
    open: async function* () {
      for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
    },
  }
}

export async function readAll(store: RemoteStore, path: string, range: { offset: number; length: number }): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of store.read(path, range)) pieces.push(piece)
  return Buffer.concat(pieces)
}

export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    return toAppError(error).code
  }
  return 'none'
}

export function describeRemoteStore(underTest: () => Promise<StoreUnderTest>): void {
  let store: RemoteStore
  let folder: string

  beforeEach(async () => {
    ;({ store } = await underTest())
    folder = `contract/${randomUUID()}`
    await store.makeDirectories(folder)
  })

  const put = async (name: string, text: string): Promise<string> => {
    await store.put(`${folder}/${name}`, bufferSource(Buffer.from(text)))
    return `${folder}/${name}`
  }
  const lengthOf = async (path: string): Promise<number | undefined> => (await store.stat(path))?.lengthBytes
  const textOf = async (path: string): Promise<string> => (await readAll(store, path, { offset: 0, length: (await lengthOf(path)) ?? 0 })).toString()

  test('what was put is there in full length and reads back byte for byte', async () => {
    const bytes = patterned(3 * 1024 * 1024 + 7)
    await store.put(`${folder}/a.log`, piecewise(bytes))
    expect(await store.stat(`${folder}/a.log`)).toMatchObject({ kind: 'file', lengthBytes: bytes.length })
    expect((await readAll(store, `${folder}/a.log`, { offset: 0, length: bytes.length })).equals(bytes)).toBe(true)
  })

  test('an empty file can be put and is the same as itself', async () => {
    await store.put(`${folder}/empty`, bufferSource(Buffer.alloc(0)))
    expect(await lengthOf(`${folder}/empty`)).toBe(0)
    expect(await store.matches(`${folder}/empty`, { lengthBytes: 0, sha256: sha256(Buffer.alloc(0)) })).toBe('same')
  })

  test('put refuses a name that is taken and leaves what stands there alone', async () => {
    const path = await put('a', 'first')
    expect(await codeOf(store.put(path, bufferSource(Buffer.from('second, longer'))))).toBe('CONFLICT')
    expect(await textOf(path)).toBe('first')
  })

  test('a source that fails in the middle never passes for the whole file', async () => {
    const bytes = patterned(512 * 1024)
    const failing: ByteSource = {
      lengthBytes: bytes.length,
      open: async function* () {
        yield bytes.subarray(0, 256 * 1024)
        throw new Error('the local disk failed')
      },
    }
    expect(await codeOf(store.put(`${folder}/broken`, failing))).not.toBe('none')
    expect(await store.matches(`${folder}/broken`, { lengthBytes: bytes.length, sha256: sha256(bytes), source: bufferSource(bytes) })).not.toBe('same')
  })

  test('a range is read exactly', async () => {
    const path = await put('a', '0123456789')
    expect((await readAll(store, path, { offset: 3, length: 4 })).toString()).toBe('3456')
    expect((await readAll(store, path, { offset: 9, length: 1 })).toString()).toBe('9')
  })

  test('a range behind the end is refused, not cut short', async () => {
    const path = await put('a', '0123456789')
    expect(await codeOf(readAll(store, path, { offset: 10, length: 1 }))).toBe('OFFSET_OUT_OF_RANGE')
    expect(await codeOf(readAll(store, path, { offset: 8, length: 4 }))).toBe('OFFSET_OUT_OF_RANGE')
  })

  test('reading what is absent is NOT_FOUND', async () => {
    expect(await codeOf(readAll(store, `${folder}/absent`, { offset: 0, length: 1 }))).toBe('NOT_FOUND')
    expect(await store.stat(`${folder}/absent`)).toBeUndefined()
  })

  test('rename moves a file to its new name', async () => {
    const path = await put('a', 'content')
    expect(await store.rename(path, `${folder}/b`)).toBe(true)
    expect(await store.stat(path)).toBeUndefined()
    expect(await textOf(`${folder}/b`)).toBe('content')
  })

  test('rename answers false and changes nothing where the target exists', async () => {
    const from = await put('a', 'new')
    const to = await put('b', 'old')
    expect(await store.rename(from, to)).toBe(false)
    expect(await textOf(from)).toBe('new')
    expect(await textOf(to)).toBe('old')
  })

  test('rename answers false for an absent source and for a missing parent', async () => {
    const from = await put('a', 'content')
    expect(await store.rename(`${folder}/absent`, `${folder}/b`)).toBe(false)
    expect(await store.rename(from, `${folder}/nowhere/b`)).toBe(false)
    expect(await textOf(from)).toBe('content')
  })

  test('rename never moves a file into a directory that has the name', async () => {
    const from = await put('a', 'content')
    await store.makeDirectories(`${folder}/b`)
    expect(await store.rename(from, `${folder}/b`)).toBe(false)
    expect(await store.stat(`${folder}/b/a`)).toBeUndefined()
    expect(await textOf(from)).toBe('content')
  })

  test('remove tells whether something was there', async () => {
    const path = await put('a', 'content')
    expect(await store.remove(path)).toBe(true)
    expect(await store.stat(path)).toBeUndefined()
    expect(await store.remove(path)).toBe(false)
  })

  test('directories are made with their parents, as often as wanted', async () => {
    await store.makeDirectories(`${folder}/x/p=0`)
    await store.makeDirectories(`${folder}/x/p=0`)
    expect((await store.stat(`${folder}/x/p=0`))?.kind).toBe('directory')
  })

  test('a directory lists its names with kind and length; an absent one is empty', async () => {
    await put('a', 'four')
    await store.makeDirectories(`${folder}/d`)
    const names = [...(await store.list(folder))].sort((a, b) => (a.name < b.name ? -1 : 1))
    expect(names.map(({ name, kind, lengthBytes }) => ({ name, kind, lengthBytes }))).toEqual([
      { name: 'a', kind: 'file', lengthBytes: 4 },
      { name: 'd', kind: 'directory', lengthBytes: 0 },
    ])
    expect(await store.list(`${folder}/absent`)).toEqual([])
  })

  test('matches tells same, missing, another length and another content apart, with and without the local twin', async () => {
    const bytes = patterned(2 * 1024 * 1024 + 100)
    const other = Buffer.from(bytes)
    other.writeUInt8(other.readUInt8(1_500_000) ^ 1, 1_500_000)
    await store.put(`${folder}/a`, piecewise(bytes))
    for (const twin of [true, false]) {
      const expecting = (content: Buffer): Parameters<RemoteStore['matches']>[1] => ({
        lengthBytes: content.length,
        sha256: sha256(content),
        ...(twin ? { source: piecewise(content) } : {}),
      })
      expect(await store.matches(`${folder}/a`, expecting(bytes))).toBe('same')
      expect(await store.matches(`${folder}/a`, expecting(other))).toBe('checksum')
      expect(await store.matches(`${folder}/a`, expecting(bytes.subarray(1)))).toBe('length')
      expect(await store.matches(`${folder}/absent`, expecting(bytes))).toBe('missing')
    }
  })

  test('a stopped upload is ABORTED', async () => {
    const stop = new AbortController()
    const endless: ByteSource = {
      lengthBytes: 64 * 1024 * 1024,
      open: async function* () {
        yield Buffer.alloc(1024)
        stop.abort()
        for (let count = 0; count < 1024; count += 1) yield Buffer.alloc(64 * 1024 - 1)
      },
    }
    expect(await codeOf(store.put(`${folder}/stopped`, endless, { signal: stop.signal }))).toBe('ABORTED')
  })
}
