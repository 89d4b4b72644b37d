/** What a sweep's finds do to the files that are followed, on real files. */
import { appendFileSync, linkSync, mkdtempSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { compileGlobs } from '../../agent/globs.ts'
import { Registry, type Reconciled } from '../../agent/registry.ts'
import { Watcher } from '../../agent/watcher.ts'
import { createNodeSystem } from '../../shared/node-system.ts'
import { testConfig } from './agent-rig.ts'

let folder: string
let registry: Registry
let watcher: Watcher

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tailrace-registry-'))
  const config = testConfig({ input: { files: [join(folder, '*.log')] } })
  watcher = new Watcher(createNodeSystem({ logLevel: 'error' }), config.inputs.map(compileGlobs))
  registry = new Registry(config)
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function put(name: string, text = 'one\n'): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

async function sweep(): Promise<{ compared: number; outcome: Readonly<Record<keyof Reconciled, string[]>> }> {
  const { files } = await watcher.sweep((file) => registry.isAsKnown(file))
  const reconciled = registry.reconcile(files, 0)
  const names = (of: Reconciled['fresh']): string[] => of.map(({ path }) => path.slice(folder.length + 1))
  return { compared: files.length, outcome: { fresh: names(reconciled.fresh), touched: names(reconciled.touched), missing: names(reconciled.missing) } }
}

test('files that are as they were are not even gathered, and stay listed', async () => {
  put('a.log')
  put('b.log')
  expect(await sweep()).toEqual({ compared: 2, outcome: { fresh: ['a.log', 'b.log'], touched: [], missing: [] } })
  for (let again = 0; again < 3; again += 1) {
    expect(await sweep()).toEqual({ compared: 0, outcome: { fresh: [], touched: [], missing: [] } })
    expect([...registry.files].map(({ isListed, isDetached }) => [isListed, isDetached])).toEqual([[true, false], [true, false]])
  }
})

test('one that grew, one that is gone, one that is new and one that is another file now', async () => {
  const [grown, gone, replaced] = ['grown.log', 'gone.log', 'replaced.log'].map((name) => put(name))
  await sweep()
  appendFileSync(grown ?? '', 'two\n')
  unlinkSync(gone ?? '')
  renameSync(put('next'), replaced ?? '')
  put('new.log')
  const { outcome } = await sweep()
  expect(outcome).toMatchObject({ touched: ['grown.log'] })
  expect([...outcome.fresh].sort()).toEqual(['new.log', 'replaced.log'])
  expect([...outcome.missing].sort()).toEqual(['gone.log', 'replaced.log'])
})

test('of hard links the name that a file bears already counts, and another one when that is gone', async () => {
  const path = put('b.log')
  await sweep()
  linkSync(path, join(folder, 'a.log'))
  linkSync(path, join(folder, 'c.log'))
  for (let again = 0; again < 2; again += 1) expect((await sweep()).outcome).toEqual({ fresh: [], touched: [], missing: [] })
  expect([...registry.files].map((file) => file.path)).toEqual([path])
  unlinkSync(path)
  expect((await sweep()).outcome).toEqual({ fresh: [], touched: [], missing: [] })
  expect([...registry.files].map((file) => file.path)).toEqual([join(folder, 'a.log')])
  expect((await sweep()).compared).toBe(1)
})

test('files of one device share its number', async () => {
  put('a.log')
  await sweep()
  put('b.log')
  await sweep()
  const [a, b] = [...registry.files]
  expect(Object.is(a?.device, b?.device)).toBe(true)
})
