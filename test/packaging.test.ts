/** What is installed by copying: example configs that the daemons take, and units that systemd finds clean and tight. */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { agentProblems, agentSettings } from '../agent/config.ts'
import { collectorSettings, toCollectorConfig } from '../collector/config.ts'
import { formatProblems, parseSettings, type SettingTable } from '../shared/settings.ts'
import { AGENT_ENVIRONMENT } from './bench/agent-process.ts'

const packaging = fileURLToPath(new URL('../packaging', import.meta.url))
const examples = join(packaging, 'examples')

/** What `check-config` would print for this text: nothing when it is fine. */
type CheckConfig = (fileText: string) => string

const daemons: Readonly<Record<string, { readonly table: SettingTable; readonly check: CheckConfig }>> = {
  agent: {
    table: agentSettings,
    check: (fileText) => {
      return formatProblems(agentProblems(parseSettings(agentSettings, { fileText })))
    },
  },
  collector: {
    table: collectorSettings,
    check: (fileText) => {
      const outcome = toCollectorConfig(parseSettings(collectorSettings, { fileText }))
      return 'problems' in outcome ? formatProblems(outcome.problems) : ''
    },
  },
}

function daemonOf(file: string): { readonly table: SettingTable; readonly check: CheckConfig } {
  const daemon = daemons[file.replace(/[.-].*$/, '')]
  if (daemon === undefined) throw new Error(`${file} is named after no daemon`)
  return daemon
}

const exampleFiles = readdirSync(examples).filter((name) => name.endsWith('.yaml'))

describe.each(exampleFiles)('the example %s', (file) => {
  const { check } = daemonOf(file)
  const text = readFileSync(join(examples, file), 'utf8')

  test('passes check-config as it is', () => {
    expect(check(text)).toBe('')
  })

  test('is read: a misspelt key in it is found', () => {
    expect(check(`${text}\nnoSuchKey: 1\n`)).toContain('noSuchKey')
  })
})

describe.each(exampleFiles.filter((name) => name.endsWith('-full.yaml')))('the full example %s', (file) => {
  const { table, check } = daemonOf(file)
  const text = readFileSync(join(examples, file), 'utf8')

  test('names every key of the daemon, and no other', () => {
    const named = [...text.matchAll(/^#?([a-z][A-Za-z]*):/gm)].map((match) => match[1] ?? '')
    expect(named.toSorted()).toEqual(Object.keys(table).toSorted())
  })

  test('shows values that the daemon takes in what is commented out', () => {
    for (const [line, key] of text.matchAll(/^#([a-z][A-Za-z]*):.*$/gm)) {
      const rest = text.replaceAll(new RegExp(`^#?${key}:.*$`, 'gm'), '')
      const complaints = check(`${rest}\n${line.slice(1)}\n`).split('\n').filter((complaint) => complaint.includes(`${key}:`) && !complaint.includes('needs'))
      expect(complaints, line).toEqual([])
    }
  })
})

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0
if (!hasSystemd) console.warn('\n*** SKIPPED the systemd units: systemd-analyze is not on this machine ***\n')

/** systemd-analyze counts in tenths: 20 is an exposure level of 2.0. */
const EXPOSURE_TENTHS_MAX = 20

describe.skipIf(!hasSystemd)('the systemd unit', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tailrace-units-'))
  afterAll(() => {
    rmSync(folder, { recursive: true })
  })

  /** A copy as it would be installed, alone or with one of its drop-ins. */
  function install(unit: string, dropIn?: string): string {
    const target = join(mkdtempSync(join(folder, 'etc-')), unit)
    copyFileSync(join(packaging, 'systemd', unit), target)
    if (dropIn === undefined) return target
    mkdirSync(`${target}.d`)
    copyFileSync(join(packaging, 'systemd', `${unit}.d`, dropIn), join(`${target}.d`, basename(dropIn, '.example')))
    return target
  }

  const units = readdirSync(join(packaging, 'systemd')).filter((name) => name.endsWith('.service'))
  const installs = units.flatMap((unit) => [
    { unit, dropIn: undefined },
    ...readdirSync(join(packaging, 'systemd', `${unit}.d`)).map((dropIn) => ({ unit, dropIn })),
  ])

  test.each(installs)('$unit with drop-in $dropIn is clean and exposes little', ({ unit, dropIn }) => {
    const installed = install(unit, dropIn)
    const verified = spawnSync('systemd-analyze', ['verify', '--man=no', installed], { encoding: 'utf8' })
    expect(verified.stderr + verified.stdout).toBe('')
    expect(verified.status).toBe(0)
    const args = ['security', '--offline=true', '--no-pager', `--threshold=${EXPOSURE_TENTHS_MAX}`, installed]
    const judged = spawnSync('systemd-analyze', args, { encoding: 'utf8' })
    expect(judged.status, judged.stdout + judged.stderr).toBe(0)
    expect(judged.stdout).toContain('Overall exposure level')
  })

  test('the benchmark measures the agent in the environment of its unit', () => {
    const unit = readFileSync(join(packaging, 'systemd', 'tailrace-agent.service'), 'utf8')
    for (const [name, value] of Object.entries(AGENT_ENVIRONMENT)) expect(unit).toContain(`\nEnvironment=${name}=${value}\n`)
  })

  test('would be caught if it were loose: the judge is awake', () => {
    const loose = install('tailrace-agent.service')
    execFileSync('sed', ['-i', '/^Protect/d;/^SystemCall/d;/^Restrict/d', loose])
    expect(spawnSync('systemd-analyze', ['security', '--offline=true', `--threshold=${EXPOSURE_TENTHS_MAX}`, loose]).status).not.toBe(0)
  })

  test.each(units)('%s tells systemd when it is ready and alive, and leaves V8 its compiler', (unit) => {
    const text = readFileSync(join(packaging, 'systemd', unit), 'utf8')
    expect(text).toMatch(/^Type=notify$/m)
    expect(text).toMatch(/^NotifyAccess=all$/m)
    expect(text).toMatch(/^WatchdogSec=\d+s$/m)
    expect(text).not.toMatch(/^MemoryDenyWriteExecute=yes/m)
  })
})

const hasDpkg = spawnSync('dpkg-deb', ['--version']).status === 0 && spawnSync('dpkg', ['--version']).status === 0
const isBuilt = existsSync(fileURLToPath(new URL('../dist/tailrace-agent.js', import.meta.url)))
if (!hasDpkg || !isBuilt) console.warn(`\n*** SKIPPED the Debian package: ${isBuilt ? 'dpkg-deb is not on this machine' : 'dist is not built'} ***\n`)

describe.skipIf(!hasDpkg || !isBuilt)('the Debian package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tailrace-deb-'))
  afterAll(() => {
    rmSync(folder, { recursive: true })
  })
  const build = (out: string): string => execFileSync(join(packaging, 'deb', 'build.sh'), [join(folder, out)], { encoding: 'utf8', stdio: 'pipe' }).trim()

  test('holds programs that run from where they are installed, units, and configs that upgrades keep', () => {
    const deb = build('first')
    const root = join(folder, 'root')
    execFileSync('dpkg-deb', ['--extract', deb, root])
    execFileSync('dpkg-deb', ['--control', deb, join(folder, 'control')])
    for (const program of ['tailrace', 'tailrace-agent', 'tailrace-collector']) {
      const help = spawnSync(process.execPath, [join(root, 'usr/bin', program), '--help'], { encoding: 'utf8' })
      expect(help.status, help.stderr).toBe(0)
      expect(help.stdout).toMatch(/Usage|Commands/)
    }
    expect(readdirSync(join(root, 'usr/lib/systemd/system'))).toEqual(['tailrace-agent.service', 'tailrace-collector.service'])
    expect(readFileSync(join(folder, 'control/conffiles'), 'utf8')).toBe('/etc/tailrace/agent.yaml\n/etc/tailrace/collector.yaml\n')
  })

  test('is the same bytes when it is built again', () => {
    expect(readFileSync(build('second')).equals(readFileSync(build('third')))).toBe(true)
  })
})
