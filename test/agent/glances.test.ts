/** What is done with an unknown name that an event told of, on real files. */
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Glances } from '../../agent/glances.ts'
import { compileGlobs } from '../../agent/globs.ts'
import { Registry } from '../../agent/registry.ts'
import { EMPTY } from '../../agent/source-file.ts'
import { Watcher } from '../../agent/watcher.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { testConfig } from './agent-rig.ts'

let folder: string
let registry: Registry
let glances: Glances
let appeared: string[]

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-glances-'))
  const config = testConfig({ input: { files: [join(folder, '*.log')] } })
  const system = createNodeSystem({ logLevel: 'error' })
  registry = new Registry(config)
  appeared = []
  glances = new Glances({ system, registry, watcher: new Watcher(system, config.inputs.map(compileGlobs)), onAppeared: ({ path }) => appeared.push(path) })
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function put(name: string, text = 'one\n'): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

async function see(...paths: string[]): Promise<boolean> {
  for (const path of paths) glances.note(path)
  return glances.needSweep()
}

test('a new file is followed without a sweep, once', async () => {
  const path = put('a.log')
  expect(await see(path)).toBe(false)
  expect(await see(path)).toBe(false)
  expect(appeared).toEqual([path])
  expect(registry.atPath(path, 'app')?.path).toBe(path)
})

test('a known file under a new name is for the sweep', async () => {
  const path = put('a.log')
  await see(path)
  renameSync(path, join(folder, 'b.log'))
  expect(await see(join(folder, 'b.log'))).toBe(true)
  expect(appeared).toEqual([path])
})

test('another file under a known name is for the sweep', async () => {
  const path = put('a.log')
  await see(path)
  renameSync(put('next'), path)
  expect(await see(path)).toBe(true)
})

test('what is gone, a directory, and a name that no glob takes are for the sweep', async () => {
  mkdirSync(join(folder, 'd.log'))
  for (const path of [join(folder, 'gone.log'), join(folder, 'd.log'), put('a.log.1')]) expect(await see(path)).toBe(true)
  expect(registry.size).toBe(0)
})

test.each([EMPTY, { kind: 'ignored', reason: 'old' } as const])('a file in state $kind that grew is to be identified', async (state) => {
  const path = put('a.log', '')
  await see(path)
  const file = registry.atPath(path, 'app')
  if (file === undefined) throw new Error('not followed')
  file.state = state
  expect(await see(path)).toBe(false)
  expect(file.state.kind).toBe(state.kind)
  appendFileSync(path, 'one\n')
  expect(await see(path)).toBe(false)
  expect(file.state.kind).toBe('new')
})

test('many names at a time are for the sweep', async () => {
  expect(await see(...Array.from({ length: 33 }, (_, at) => put(`${at}.log`)))).toBe(true)
  expect(registry.size).toBe(0)
})
