import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { VERSION } from '../../shared/version.ts'

test('the version in the build is the one of the package', () => {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  expect(manifest).toMatchObject({ version: VERSION })
})
