// Assembles agent/line-records.wat into agent/line-records-wasm.ts: `node packaging/assemble.mjs` after a change of the former.
// With --print it only shows what that file would hold; a test compares, so that neither is changed alone.
import { readFileSync, writeFileSync } from 'node:fs'
import wabtInit from 'wabt'

const source = new URL('../agent/line-records.wat', import.meta.url)
const target = new URL('../agent/line-records-wasm.ts', import.meta.url)

const wabt = await wabtInit()
const module = wabt.parseWat(source.pathname, readFileSync(source, 'utf8'), { simd: true })
const { buffer } = module.toBinary({})
module.destroy()
const lines = (Buffer.from(buffer).toString('base64').match(/.{1,100}/g) ?? []).map((line) => `  '${line}',`)
const text = `/** agent/line-records.wat, assembled by packaging/assemble.mjs. Base64. */\nexport const LINE_RECORDS_WASM: string = [\n${lines.join('\n')}\n].join('')\n`
if (process.argv[2] === '--print') process.stdout.write(text)
else writeFileSync(target, text)
