/**
 * Bugs that a harness has to find, as changes to the text of the program: the run is bundled anew with them, and nothing
 * of them stands in the product. A change whose text is not there any more fails loudly: then the bug has to be planted
 * another way.
 */
import { readFile } from 'node:fs/promises'
import { build, type Plugin } from 'esbuild'
import type { Kind } from './kinds.ts'

export interface Change {
  /** Path in the project. */
  readonly file: string
  readonly from: string
  readonly to: string
}

export interface PlantedBug {
  readonly name: string
  readonly changes: readonly Change[]
  /** Kinds of faults that bring it out; others would only make runs slower. */
  readonly only: readonly Kind[]
  /** Where the search begins, near the first seed that is known to find it. Default 1. */
  readonly from?: number
}

const disk: readonly Kind[] = ['kill collector', 'power cut', 'small segments', 'late messages', 'lost messages', 'second host']
const files: readonly Kind[] = ['rename', 'copytruncate', 'delete', 'truncate', 'inode reuse', 'no birth times', 'kill agent', 'banner', 'outage']

export const plantedBugs: readonly PlantedBug[] = [
  {
    name: 'a batch is acknowledged before its sync',
    only: disk,
    changes: [
      {
        file: 'collector/storage/partition-log.ts',
        from: '    await syncData(file, `${this.topic}-${this.partition}`)\n',
        to: '    void syncData(file, `${this.topic}-${this.partition}`).catch(() => undefined)\n',
      },
    ],
  },
  {
    name: 'the directory of a new segment is not synced',
    only: disk,
    changes: [
      {
        file: 'collector/storage/partition-log.ts',
        from: 'const next = await createSegment(fs, this.directory, this.watermark)\n    await fs.syncDirectory(this.directory)\n',
        to: 'const next = await createSegment(fs, this.directory, this.watermark)\n',
      },
    ],
  },
  {
    name: 'a batch that begins behind the position is accepted',
    only: ['set back', 'kill collector', 'lost messages', 'slow network'],
    changes: [{ file: 'collector/storage/acceptance.ts', from: "if (source.start > appended.position) return 'expected'", to: "if (source.start > appended.position) return 'accept'" }],
  },
  {
    name: 'the tail hash is checked by the collector only',
    only: ['rename in glob', 'small files', 'delete', 'truncate', 'inode reuse', 'no birth times', 'banner', 'kill agent', 'clone'],
    changes: [
      { file: 'agent/fingerprint.ts', from: 'return tail === stream.tailHash', to: 'return tail !== undefined' },
      { file: 'agent/tailer.ts', from: 'if (hashText(tailHash(slot.window.subarray(0, overlap))) !== start.tailHash) return', to: 'if (overlap < 0) return' },
    ],
  },
  {
    name: 'positions are kept apart from the data',
    only: disk,
    changes: [{ file: 'collector/storage/recovery.ts', from: 'streams: [...verdict.streams.values()],', to: 'streams: input.bases[0]?.streams ?? [],' }],
  },
  {
    name: 'a buffer is used again while it is in flight',
    only: ['lost messages', 'slow network', 'second host'],
    changes: [
      {
        file: 'shared/record-batch.ts',
        from: 'const batch = allocate(BATCH_HEADER_BYTES + frameBytes)',
        to: 'void allocate\n  const shared = globalThis as { scratch?: Buffer }\n  const batch = (shared.scratch ??= Buffer.alloc(8 << 20)).subarray(0, BATCH_HEADER_BYTES + frameBytes)',
      },
    ],
  },
  {
    name: 'a position is told before it is synced',
    // The power has to go within the milliseconds between an answer and a sync.
    from: 45,
    only: ['kill agent', 'power cut', 'slow disk', 'late messages', 'second host'],
    changes: [{ file: 'collector/storage/topic-store.ts', from: 'if (entry?.inFlight !== undefined) await entry.inFlight\n  const state = entry?.state\n', to: 'const state = entry?.appended\n' }],
  },
  {
    name: 'a descriptor is closed before its last byte is acknowledged',
    only: files,
    changes: [{ file: 'agent/tending.ts', from: '  if (file.cursor === undefined) return tendUntied(file, mayFinish)\n', to: "  if (file.isDetached) return { kind: 'finish file' }\n  if (file.cursor === undefined) return tendUntied(file, mayFinish)\n" }],
  },
  {
    name: 'the stream of another file is continued because the heads are equal',
    only: [...files, 'small files'],
    changes: [
      { file: 'agent/fingerprint.ts', from: 'return tail === stream.tailHash', to: 'return tail !== undefined' },
      { file: 'agent/tailer.ts', from: 'if (hashText(tailHash(slot.window.subarray(0, overlap))) !== start.tailHash) return', to: 'if (overlap < 0) return' },
      { file: 'agent/identity.ts', from: 'const CONTINUE_BYTES_MIN = 1024', to: 'const CONTINUE_BYTES_MIN = 1' },
    ],
  },
]

/** The simulation's program with the bug in it, as one file. */
export async function buildWith(bug: Pick<PlantedBug, 'changes'>, options: { root: string; outfile: string }): Promise<void> {
  const changed = new Set<Change>()
  const plugin: Plugin = {
    name: 'planted-bug',
    setup: ({ onLoad }) => {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        const wanted = bug.changes.filter((change) => path === `${options.root}/${change.file}`)
        let contents = await readFile(path, 'utf8')
        for (const change of wanted) {
          if (contents.split(change.from).length !== 2) throw new Error(`${change.file} does not hold once: ${change.from}`)
          contents = contents.replace(change.from, () => change.to)
          changed.add(change)
        }
        return wanted.length === 0 ? undefined : { contents, loader: 'ts' }
      })
    },
  }
  await build({
    absWorkingDir: options.root, entryPoints: ['test/sim/main.ts'], outfile: options.outfile, plugins: [plugin], bundle: true,
    platform: 'node', target: 'node20.19', format: 'esm', external: ['@node-rs/crc32', 'zstd-codec'], logLevel: 'silent', sourcemap: 'inline',
    banner: { js: "import { createRequire as createRequireForBundle } from 'node:module'\nconst require = createRequireForBundle(import.meta.url)" },
  })
  if (changed.size !== bug.changes.length) throw new Error('a change was not met while bundling')
}
