/** Judges an export by what Hadoop's own client lists and reads, against the segments on the collector's disk. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { parseSegmentPath, segmentFileKinds, type SegmentKey } from '../../collector/export/layout.ts'
import type { HdfsCluster } from './hdfs-cluster.ts'

/** Segments of the only partition of a data folder, in order; an empty active one has nothing to export. */
export async function localLogs(data: string, partition = 'app-0'): Promise<readonly string[]> {
  const folder = join(data, 'topics', partition)
  return (await readdir(folder)).filter((name) => name.endsWith('.log')).toSorted().map((name) => join(folder, name))
}

/** Each range of offsets once, without a gap up to `nextOffset`, each segment with all its files, and the same bytes. */
export async function expectOnceOnStore(cluster: HdfsCluster, expected: { root: string; logs: readonly string[]; nextOffset: number }): Promise<void> {
  const { root } = expected
  const listed = (await cluster.shell('-ls', '-R', `${root}/raw`)).split('\n').map((line) => line.trim().split(/\s+/).at(-1) ?? '')
  const files = listed.flatMap((path) => parseSegmentPath(path.slice(root.length + 1)) ?? [])
  const segments: SegmentKey[] = files.filter(({ kind }) => kind === 'log').map(({ key }) => key).toSorted((a, b) => a.baseOffset - b.baseOffset)
  let next = 0
  for (const { baseOffset, nextOffset } of segments) {
    expect(baseOffset).toBe(next)
    next = nextOffset
  }
  expect(next).toBe(expected.nextOffset)
  expect(files).toHaveLength(segments.length * segmentFileKinds.length)
  const local = createHash('sha256')
  for (const path of expected.logs) for await (const piece of createReadStream(path)) local.update(piece as Buffer)
  const logs = listed.filter((path) => path.endsWith('.log')).toSorted()
  expect(await cluster.sha256Of(logs)).toBe(local.digest('hex'))
}
