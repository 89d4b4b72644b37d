/** Which streams a command means: the filters of `streams` and `verify`, and finding the file of `cat`. */
import picomatch from 'picomatch'
import type { StreamInfo } from '../../shared/wire.ts'
import type { CollectorClient } from './collector-client.ts'
import type { CommandInput } from './command.ts'
import { usageError } from './exit-codes.ts'

export type StreamTest = (stream: StreamInfo) => boolean

/** Globs of topic, host and path; the first digits of the id. */
export function streamTest(input: CommandInput): StreamTest {
  const topics = input.list('topic')
  const isTopic = topics.length === 0 ? undefined : globTest(topics)
  const host = input.text('host')
  const path = input.text('path')
  const isHost = host === undefined ? undefined : globTest([host])
  const isPath = path === undefined ? undefined : globTest([path])
  const id = input.text('stream')?.toLowerCase()
  if (id !== undefined && !/^[0-9a-f]{4,32}$/.test(id)) throw usageError('--stream takes 4 to 32 hex digits of a stream id')
  return (stream) =>
    (isTopic?.(stream.topic) ?? true) && (isHost?.(stream.host) ?? true) &&
    (isPath === undefined || isPath(stream.path) || isPath(stream.keyPath)) && (id === undefined || stream.id.startsWith(id))
}

export function globTest(globs: readonly string[]): (text: string) => boolean {
  const matches = picomatch([...globs], { dot: true })
  return (text) => globs.includes(text) || matches(text)
}

/** All streams that the filters mean, in order of host, path and age. */
export async function selectStreams(client: CollectorClient, input: CommandInput): Promise<StreamInfo[]> {
  const isWanted = streamTest(input)
  const found: StreamInfo[] = []
  for await (const stream of client.streams()) if (isWanted(stream)) found.push(stream)
  return found.sort(byName)
}

function byName(a: StreamInfo, b: StreamInfo): number {
  return compare(a.topic, b.topic) || compare(a.host, b.host) || compare(a.path, b.path) || a.firstOffset - b.firstOffset || compare(a.id, b.id)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

export interface FileName {
  readonly host: string
  readonly path: string
}

/** `web-1:/var/log/app.log`: a host holds no colon, a path may. */
export function parseFileName(text: string): FileName {
  const colon = text.indexOf(':')
  if (colon < 1 || colon === text.length - 1) {
    throw usageError(`${JSON.stringify(text)} is not HOST:PATH`, 'write it like web-1:/var/log/app.log; tailrace streams lists what there is')
  }
  return { host: text.slice(0, colon), path: text.slice(colon + 1) }
}

/** Streams that are or were this file, oldest first. */
export function generationsOf(streams: readonly StreamInfo[], file: FileName): StreamInfo[] {
  const bearers = streams.filter(({ host, path, keyPath }) => host === file.host && (path === file.path || keyPath === file.path))
  const newestAppend = new Map<string, number>()
  for (const stream of bearers) {
    const place = placeOf(stream)
    newestAppend.set(place, Math.max(newestAppend.get(place) ?? 0, stream.lastAppendMs))
  }
  // Streams with one key are in one partition, where the offset of the first record tells which began earlier. Across
  // partitions (other topics, or the partition count was raised) only the clock of the last append is left.
  return bearers.sort(
    (a, b) =>
      (newestAppend.get(placeOf(a)) ?? 0) - (newestAppend.get(placeOf(b)) ?? 0) || compare(placeOf(a), placeOf(b)) || a.firstOffset - b.firstOffset,
  )
}

function placeOf(stream: StreamInfo): string {
  return `${stream.topic}-${stream.partition}`
}
