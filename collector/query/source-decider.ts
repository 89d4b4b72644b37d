/**
 * Decides by record key whether a record's host and path are wanted, and remembers the last key: neighbours mostly share
 * it. A record without a key (from `POST /lines`, or a replay) has the host '' and the path ''. Labels stand on the first
 * record of a sealed batch and decide about all of it; what is not sealed has none.
 */
import { ByteReader } from '../../shared/bytes.ts'
import { AppError } from '../../shared/errors.ts'
import type { Labels } from '../../shared/labels.ts'
import { splitRecordKey } from '../../shared/wire.ts'
import { compileGlobs, type NameMatcher } from './glob.ts'
import type { SourceSpec } from './query-spec.ts'

export class SourceDecider {
  /** Whether anything is filtered at all. */
  readonly isNeeded: boolean
  private readonly labels: NonNullable<SourceSpec['labels']>
  private readonly matchesHost: NameMatcher
  private readonly matchesPath: NameMatcher
  private lastKey: Buffer | undefined
  private lastAnswer = false

  /** Throws INVALID_QUERY. */
  constructor(source: SourceSpec) {
    this.isNeeded = isSourceFiltered(source)
    this.labels = source.labels ?? []
    this.matchesHost = compileGlobs(source.hosts)
    this.matchesPath = compileGlobs(source.paths, { lastComponent: true })
  }

  /** Of a whole batch: undefined where it has no labels. */
  admitsLabels(labels: Labels | undefined): boolean {
    return this.labels.every(([name, value]) => labels !== undefined && Object.hasOwn(labels, name) && labels[name] === value)
  }

  admits(key: Buffer): boolean {
    if (!this.isNeeded) return true
    if (this.lastKey === undefined || !this.lastKey.equals(key)) {
      const { host, path } = splitRecordKey(key.toString('utf8'))
      this.lastKey = Buffer.from(key)
      this.lastAnswer = this.matchesHost(host) && this.matchesPath(path)
    }
    return this.lastAnswer
  }
}

/** Whether anything about the source is asked for. */
export function isSourceFiltered({ hosts, paths, labels }: SourceSpec): boolean {
  return hosts.length + paths.length + (labels?.length ?? 0) > 0
}

/** Key of the first record of a decompressed section, or of a piece of it; undefined when the piece ends too early. */
export function firstRecordKey(raw: Buffer): Buffer | undefined {
  const reader = new ByteReader(raw)
  try {
    reader.varint()
    reader.u8()
    reader.varlong()
    reader.varint()
    const length = reader.varint()
    return length < 0 ? Buffer.alloc(0) : reader.bytes(length)
  } catch (error) {
    // A block may be cut anywhere; then the whole batch is looked at, and judged there.
    if (error instanceof AppError && error.code === 'CORRUPT_MESSAGE') return undefined
    throw error
  }
}
