/**
 * The markers of a topic's finished hours: `_SUCCESS` in the folder of each hour once every partition has published it,
 * also where the hour had no rows, so that a job that waits for it never waits in vain. A marker is never taken back: a
 * late line comes in one more file, which its step manifest calls late.
 *
 * Which markers are due is kept in `<data>/export/tables/<topic>.marks.json`: the next hour in line, and hours before it
 * that got files (history, a replay) and owe a marker still.
 */
import { createHash } from 'node:crypto'
import * as v from 'valibot'
import { errnoOf } from '../../../shared/errors.ts'
import { readWholeFile, writeFileDurably } from '../../../shared/files.ts'
import type { FileSystem } from '../../../shared/system.ts'
import { checkTopicName } from '../../../shared/wire.ts'
import { bufferSource, type RemoteStore } from '../remote-store.ts'
import { placeFile, type PlaceContext } from './place-file.ts'
import { HOUR_MS, markerPath, parseHour, tablesDirectory } from './table-layout.ts'

const MARKS_BYTES_MAX = 64 * 1024 * 1024
/** The rest waits for the next round. */
const MARKERS_PER_ROUND = 100
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const marksSchema = v.object({ version: v.literal(1), nextHour: count, owed: v.array(count) })

export class TopicMarks {
  private readonly fs: FileSystem
  private readonly path: string
  private readonly topic: string
  private nextHour: number | undefined
  private readonly owed = new Set<number>()
  private isLoaded = false

  constructor(fs: FileSystem, directory: string, topic: string) {
    this.fs = fs
    this.topic = topic
    this.path = `${directory}/${checkTopicName(topic)}.marks.json`
  }

  /** Files are about to be placed in these hours. Durable on return, before they are. */
  async owe(hours: Iterable<number>): Promise<void> {
    await this.load()
    const before = this.owed.size
    for (const hour of hours) if (this.nextHour === undefined || hour < this.nextHour) this.owed.add(hour)
    if (this.owed.size > before) await this.save()
  }

  /** Places the markers of hours below `complete`. `hasHistory`: the topic has published before this file was made. */
  async place(context: PlaceContext, complete: number, options: { hasHistory: boolean }): Promise<void> {
    await this.load()
    if (this.nextHour === undefined) {
      if (options.hasHistory) for (const hour of await listHours(context.store, this.topic)) this.owed.add(hour)
      this.nextHour = complete
      await this.save()
    }
    let placed = 0
    for (const hour of [...this.owed].sort((a, b) => a - b)) {
      if (hour >= complete || placed >= MARKERS_PER_ROUND || context.signal.aborted) break
      await placeMarker(context, this.topic, hour)
      this.owed.delete(hour)
      placed += 1
    }
    let { nextHour } = this
    while (nextHour < complete && placed < MARKERS_PER_ROUND && !context.signal.aborted) {
      await placeMarker(context, this.topic, nextHour)
      nextHour += 1
      placed += 1
    }
    this.nextHour = nextHour
    if (placed > 0) await this.save()
  }

  private async load(): Promise<void> {
    if (this.isLoaded) return
    try {
      const result = v.safeParse(marksSchema, JSON.parse((await readWholeFile(this.fs, this.path, MARKS_BYTES_MAX)).toString('utf8')))
      if (result.success) {
        this.nextHour = result.output.nextHour
        for (const hour of result.output.owed) this.owed.add(hour)
      }
    } catch (error) {
      // A damaged file counts as none: the folders on the store are then looked through.
      if (errnoOf(error) !== 'ENOENT' && !(error instanceof SyntaxError)) throw error
    }
    this.isLoaded = true
  }

  private async save(): Promise<void> {
    // Before the topic's first complete hour is known only debts are there, and they are below any hour to come.
    const nextHour = this.nextHour
    if (nextHour === undefined) return
    await writeFileDurably(this.fs, this.path, Buffer.from(JSON.stringify({ version: 1, nextHour, owed: [...this.owed] }), 'utf8'))
  }
}

async function placeMarker(context: PlaceContext, topic: string, hour: number): Promise<void> {
  const path = markerPath(topic, hour)
  // Whatever it holds: jobs of others write such files too.
  if ((await context.store.stat(path)) !== undefined) return
  const bytes = Buffer.from(`${JSON.stringify({ version: 1, topic, hour: new Date(hour * HOUR_MS).toISOString() })}\n`, 'utf8')
  await placeFile(context, { at: { topic, partition: 0 }, path, source: bufferSource(bytes), sha256: createHash('sha256').update(bytes).digest('hex') })
}

async function listHours(store: RemoteStore, topic: string): Promise<number[]> {
  const hours: number[] = []
  for (const { name: date } of await store.list(tablesDirectory(topic))) {
    for (const { name } of await store.list(`${tablesDirectory(topic)}/${date}`)) {
      const hour = parseHour(date, name)
      if (hour !== undefined) hours.push(hour)
    }
  }
  return hours
}
