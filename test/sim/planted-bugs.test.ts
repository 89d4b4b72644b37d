/** A harness that finds no planted bug proves nothing: each of the nine must be found, and the program as it is must pass the same runs. */
import { fork } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { runSeed } from './run-seed.ts'
import { buildWith, plantedBugs, type PlantedBug } from './planted-bugs.ts'

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')
/** Seeds that a bug may take: nearly all are found by one of the first three. */
const SEEDS_MAX = 40
let folder: string

beforeAll(async () => {
  // Inside the project: what is not bundled is found from there.
  const cache = join(root, 'node_modules', '.cache')
  await mkdir(cache, { recursive: true })
  folder = await mkdtemp(join(cache, 'planted-'))
})

afterAll(async () => {
  await rm(folder, { recursive: true, force: true })
})

interface Found {
  readonly seed: number
  readonly violation: string
}

function isTold(value: unknown): value is { seed: number; violations: string[] } {
  return typeof value === 'object' && value !== null && 'violations' in value && Array.isArray(value.violations)
}

/** The first seed that breaks something. */
async function firstBroken(bug: PlantedBug): Promise<Found | undefined> {
  const { from = 1 } = bug
  const outfile = join(folder, `${plantedBugs.indexOf(bug)}.mjs`)
  await buildWith(bug, { root, outfile })
  const only = bug.only.map((kind) => kind.replaceAll(' ', '-')).join(',')
  const child = fork(outfile, ['--worker', String(from), '--seeds', String(from + SEEDS_MAX), '--only', only], { execArgv: [], stdio: 'pipe' })
  return new Promise((resolve) => {
    let found: Found | undefined
    child.on('message', (told) => {
      if (!isTold(told) || told.violations[0] === undefined) return
      found ??= { seed: told.seed, violation: told.violations[0].split('\n')[0] ?? '' }
      child.kill()
    })
    child.on('exit', () => resolve(found))
  })
}

test.each(plantedBugs.map((bug) => [bug.name, bug] as const))('simulation finds out that %s', async (_name, bug) => {
  const found = await firstBroken(bug)
  expect(found, `${bug.name}: ${SEEDS_MAX} seeds found nothing`).toBeDefined()
  const sound = await runSeed({ seed: found?.seed ?? 0, only: bug.only })
  expect(sound.violations, 'the program as it is passes the run that the bug fails').toEqual([])
}, 120_000)

test('a bug whose place in the program is gone is not taken for found', async () => {
  const gone = { changes: [{ file: 'collector/storage/acceptance.ts', from: 'no such words', to: '' }] }
  await expect(buildWith(gone, { root, outfile: join(folder, 'gone.mjs') })).rejects.toThrow('does not hold once')
})
