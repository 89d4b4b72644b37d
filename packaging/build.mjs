// Bundles each program into one file under dist/: a daemon then loads only what it uses, which is a third of an
// agent's memory. Native and WASM packages stay outside, they are loaded from node_modules.
import { build } from 'esbuild'
import { existsSync } from 'node:fs'
import { chmod, rm } from 'node:fs/promises'

const programs = {
  'tailrace-agent': 'agent/main.ts',
  'tailrace-collector': 'collector/main.ts',
  tailrace: 'collector/cli/main.ts',
  'scan-worker': 'collector/query/scan-worker.ts',
  'table-worker': 'collector/export/tables/table-worker.ts',
  demo: 'packaging/demo/main.ts',
  bench: 'test/bench/main.ts',
  'bench-export': 'test/bench/export-main.ts',
  'bench-sink': 'test/bench/sink-main.ts',
  sim: 'test/sim/main.ts',
  torture: 'test/torture/main.ts',
}

/**
 * Node's own modules by `require`: an `import` of one asks it for everything that it exports, and some of that is made only
 * when it is asked for. `node:http` would load a WebSocket client with all of undici, `node:crypto` WebCrypto: memory that
 * an agent never uses.
 */
const builtinsByRequire = {
  name: 'builtins-by-require',
  setup: (build) => {
    build.onResolve({ filter: /^node:/ }, ({ path, kind }) => (kind === 'require-call' ? { path, external: true } : { path, namespace: 'builtin' }))
    build.onLoad({ filter: /.*/, namespace: 'builtin' }, ({ path }) => ({ contents: `module.exports = require(${JSON.stringify(path)})`, loader: 'js' }))
  },
}

/** What prom-client brings and we never call: with `https` for a push gateway an agent would be 5 MiB larger. */
const withoutPushgateway = {
  name: 'without-pushgateway',
  setup: (build) => {
    build.onLoad({ filter: /prom-client.lib.(pushgateway|cluster)\.js$/ }, () => ({ contents: 'module.exports = undefined', loader: 'js' }))
  },
}

const entryPoints = Object.fromEntries(Object.entries(programs).filter(([, path]) => existsSync(path)))
const root = new URL('..', import.meta.url)

await rm(new URL('dist', root), { recursive: true, force: true })
await build({
  absWorkingDir: root.pathname,
  entryPoints,
  outdir: 'dist',
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  format: 'esm',
  external: ['@node-rs/crc32', 'zstd-codec', 'kerberos'],
  plugins: [builtinsByRequire, withoutPushgateway],
  // Bundled CommonJS packages call require for Node's own modules.
  banner: {
    js: "#!/usr/bin/env node\nimport { createRequire as createRequireForBundle } from 'node:module'\nconst require = createRequireForBundle(import.meta.url)",
  },
  sourcemap: true,
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: 'none',
  logLevel: 'warning',
})
await Promise.all(Object.keys(entryPoints).map((name) => chmod(new URL(`dist/${name}.js`, root), 0o755)))
