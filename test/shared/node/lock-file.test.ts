import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { lockFile } from '../../../shared/node/lock-file.ts'

let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'tailrace-lock-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

test('a lock is held once, and can be taken again after its release', async () => {
  const path = join(folder, 'lock')
  const first = await lockFile(path)
  await expect(lockFile(path)).rejects.toMatchObject({ code: 'LOCKED' })
  await first.release()
  const second = await lockFile(path)
  await second.release()
})

test('a lock whose holder is dead is taken over', async () => {
  const path = join(folder, 'lock')
  const child = spawn(process.execPath, ['-e', ''])
  await new Promise((resolve) => child.once('exit', resolve))
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  await writeFile(path, `${hostname()} ${boot} ${child.pid} 1\n`)
  await (await lockFile(path)).release()
})

test('a lock from before a reboot is taken over, also when its process id is in use again', async () => {
  const path = join(folder, 'lock')
  await writeFile(path, `${hostname()} 00000000-0000-0000-0000-000000000000 ${process.ppid} 1\n`)
  await (await lockFile(path)).release()
})

test('a lock held on another host is never broken', async () => {
  const path = join(folder, 'lock')
  await writeFile(path, `elsewhere 00000000-0000-0000-0000-000000000000 1 1\n`)
  await expect(lockFile(path)).rejects.toMatchObject({ code: 'LOCKED', message: expect.stringContaining('elsewhere') as string })
})

test('of ten that start at once over a stale lock, one gets it', async () => {
  const path = join(folder, 'lock')
  await writeFile(path, `${hostname()} 00000000-0000-0000-0000-000000000000 1 1\n`)
  const outcomes = await Promise.allSettled(Array.from({ length: 10 }, () => lockFile(path)))
  expect(outcomes.filter((outcome) => outcome.status === 'fulfilled')).toHaveLength(1)
})

test.each([['is empty', ''], ['is NUL bytes', '\0'.repeat(70)], ['was cut', 'host-1 0000']])('a lock that %s after a power cut is taken over', async (_how, left) => {
  const path = join(folder, 'lock')
  await writeFile(path, left)
  await (await lockFile(path)).release()
})
