/** Who may import whom (the house's floor plan), and which package lives where. */
import { posix } from 'node:path'
import { Visitor, type ESTree } from 'vite'
import { packageHomes, seams, type Effect } from './exceptions.ts'
import { isTest, type Finding, type SourceFile } from './source-tree.ts'

interface Import {
  readonly specifier: string
  readonly line: number
  /** `import type`, or nothing but names that are pure functions: no effect can come of it. */
  readonly isHarmless: boolean
}

/** Pure parts of modules that are otherwise an effect. */
const pureNames: Readonly<Record<string, readonly string[]>> = {
  'node:net': ['isIP', 'isIPv4', 'isIPv6', 'BlockList', 'SocketAddress'],
}

function isHarmlessImport(node: ESTree.ImportDeclaration): boolean {
  if (node.importKind === 'type') return true
  const pure = pureNames[node.source.value] ?? []
  return node.specifiers.length > 0 && node.specifiers.every(
    (specifier) =>
      specifier.type === 'ImportSpecifier' &&
      (specifier.importKind === 'type' || (specifier.imported.type === 'Identifier' && pure.includes(specifier.imported.name))),
  )
}

export function importsOf(file: SourceFile): readonly Import[] {
  const found: Import[] = []
  const add = (source: { readonly value: unknown; readonly start: number } | null, isHarmless = false): void => {
    if (source !== null && typeof source.value === 'string') found.push({ specifier: source.value, line: file.lineOf(source.start), isHarmless })
  }
  new Visitor({
    ImportDeclaration: (node) => add(node.source, isHarmlessImport(node)),
    ExportNamedDeclaration: (node) => add(node.source),
    ExportAllDeclaration: (node) => add(node.source),
    ImportExpression: (node) => {
      if (node.source.type === 'Literal') add(node.source)
    },
  }).visit(file.program)
  return found
}

interface Zone {
  readonly name: string
  readonly allowed: readonly string[]
  readonly reason: string
}

const house = 'the house has one way in: '

/** The first match decides. `allowed` are prefixes of project paths. */
const zones: readonly (Zone & { readonly match: RegExp })[] = [
  { name: 'test', match: /^test\//, allowed: ['agent/', 'collector/', 'shared/', 'test/', 'packaging/'], reason: 'tests see everything' },
  { name: 'packaging', match: /^packaging\//, allowed: ['agent/', 'collector/', 'shared/', 'packaging/'], reason: 'the demo runs both daemons' },
  { name: 'shared', match: /^shared\//, allowed: ['shared/'], reason: `${house}shared is below everything and imports nothing of ours` },
  { name: 'agent', match: /^agent\//, allowed: ['agent/', 'shared/'], reason: `${house}agent and collector meet only on the wire` },
  {
    name: 'inspect',
    match: /^collector\/cli\/(commands\/)?inspect[^/]*$/,
    allowed: ['collector/cli/', 'collector/storage/', 'shared/'],
    reason: `${house}inspect reads segments without a server, so it alone of the CLI may import storage`,
  },
  {
    name: 'cli entry',
    match: /^collector\/cli\/main\.ts$/,
    allowed: ['collector/cli/', 'collector/store-reader.ts', 'shared/'],
    reason: `${house}the entry hands the commands what reads an export store in the place of a collector`,
  },
  { name: 'cli', match: /^collector\/cli\//, allowed: ['collector/cli/', 'shared/'], reason: `${house}the CLI talks HTTP like any client` },
  { name: 'storage', match: /^collector\/storage\//, allowed: ['collector/storage/', 'shared/'], reason: `${house}storage is the collector's ground floor` },
  {
    name: 'http',
    match: /^collector\/http\//,
    allowed: ['collector/http/', 'collector/query/', 'collector/storage/', 'shared/'],
    reason: `${house}http knows storage and query; what else it needs is handed in by collector.ts`,
  },
  {
    name: 'query, export, kafka',
    match: /^collector\/(query|export|kafka)\//,
    allowed: ['collector/$1/', 'collector/storage/', 'shared/'],
    reason: `${house}query, export and kafka stand on storage and do not know each other`,
  },
  {
    name: 'collector',
    match: /^collector\/[^/]+$/,
    allowed: ['collector/', 'shared/'],
    reason: `${house}the collector's top files wire its rooms together`,
  },
]

function findHouseImports(file: SourceFile, imported: Import): readonly Finding[] {
  const target = posix.join(posix.dirname(file.path), imported.specifier)
  const zone = zones.find((candidate) => candidate.match.test(file.path))
  if (zone === undefined) return [{ rule: 'import-house', path: file.path, line: imported.line, text: 'lies in no known folder' }]
  const own = zone.match.exec(file.path)?.[1] ?? ''
  const allowed = zone.allowed.map((prefix) => prefix.replace('$1', own))
  const findings: Finding[] = []
  if (!allowed.some((prefix) => target.startsWith(prefix))) {
    findings.push({ rule: 'import-house', path: file.path, line: imported.line, text: `imports ${target}: ${zone.reason}` })
  }
  if (!/\.(ts|js|mjs|json)$/.test(target)) {
    findings.push({ rule: 'import-ending', path: file.path, line: imported.line, text: `imports ${imported.specifier} without its .ts: Node runs these files as they are` })
  }
  return findings
}

const builtinEffects: Readonly<Record<string, Effect>> = {
  'node:fs': 'files',
  'node:fs/promises': 'files',
  'node:http': 'network',
  'node:https': 'network',
  'node:http2': 'network',
  'node:net': 'network',
  'node:tls': 'network',
  'node:dgram': 'network',
  'node:dns': 'network',
  'node:dns/promises': 'network',
  'node:timers': 'clock',
  'node:timers/promises': 'clock',
  'node:perf_hooks': 'clock',
  'node:process': 'process',
  'node:child_process': 'process',
  'node:cluster': 'process',
  'node:os': 'process',
  'node:tty': 'process',
  'node:readline': 'process',
  'node:readline/promises': 'process',
  'node:console': 'console',
  'node:worker_threads': 'threads',
  undici: 'network',
  chokidar: 'watching',
}

export function isAllowedEffect(path: string, effect: Effect): boolean {
  return isTest(path) || seams.some((seam) => covers(seam.path, path) && seam.effects.includes(effect))
}

export function covers(place: string, path: string): boolean {
  return place.endsWith('/') ? path.startsWith(place) : path === place
}

function packageOf(specifier: string): string {
  const parts = specifier.split('/')
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : (parts[0] ?? specifier)
}

function findPackageImports(file: SourceFile, imported: Import): readonly Finding[] {
  const { specifier, line } = imported
  const findings: Finding[] = []
  const effect = builtinEffects[specifier] ?? builtinEffects[packageOf(specifier)]
  if (effect !== undefined && !imported.isHarmless && !isAllowedEffect(file.path, effect)) {
    findings.push({ rule: 'effect', path: file.path, line, text: `imports ${specifier} (${effect}): effects go through System, or simulation can't replace them` })
  }
  if (specifier.startsWith('node:') || isTest(file.path) || file.path.startsWith('packaging/')) return findings
  const homes = packageHomes[packageOf(specifier)]
  if (homes === undefined) {
    findings.push({ rule: 'package-home', path: file.path, line, text: `imports ${specifier}, which has no line in packageHomes: each runtime dependency is a decision` })
  } else if (!homes.some((home) => covers(home, file.path))) {
    findings.push({ rule: 'package-home', path: file.path, line, text: `imports ${specifier}, which lives in ${homes.join(', ')}: replacing a package must be a change of one place` })
  }
  return findings
}

/** Values of node:crypto that are random; its hashes are not an effect. */
const randomNames = new Set(['randomBytes', 'randomUUID', 'randomInt', 'randomFill', 'randomFillSync', 'getRandomValues', 'webcrypto'])

function findRandomImports(file: SourceFile): readonly Finding[] {
  const findings: Finding[] = []
  new Visitor({
    ImportDeclaration: (node) => {
      if (node.source.value !== 'node:crypto' || isAllowedEffect(file.path, 'random')) return
      for (const specifier of node.specifiers) {
        const name = specifier.type === 'ImportSpecifier' && specifier.imported.type === 'Identifier' ? specifier.imported.name : '*'
        if (name !== '*' && !randomNames.has(name)) continue
        findings.push({ rule: 'effect', path: file.path, line: file.lineOf(node.start), text: `imports ${name} of node:crypto (random): use system.random and import hashes by name` })
      }
    },
  }).visit(file.program)
  return findings
}

export function findImportProblems(file: SourceFile): readonly Finding[] {
  const findings = importsOf(file).flatMap((imported) =>
    imported.specifier.startsWith('.') ? findHouseImports(file, imported) : findPackageImports(file, imported),
  )
  return [...findings, ...findRandomImports(file)]
}
