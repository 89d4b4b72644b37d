/**
 * One stream on its way to the collector: who it is, what was acked, and the batches between. Batches enter in file
 * order while they are being sealed, and leave in file order when the collector has answered; they are resent as they
 * are. Knows no file and no network. Used from one event loop, never across an await.
 */
import { hashText, streamId, type HashText } from '../shared/hashes.ts'
import { assert } from '../shared/errors.ts'

export interface StreamIdentity {
  readonly idHex: HashText
  readonly topic: string
  /** Inode and birth time of the file that the stream began with: the id is made of them. */
  readonly inode: bigint
  readonly birthtimeNs: bigint
  readonly generation: number
  /** The generation that this one takes the place of; told in the first batch. */
  readonly supersedes: number | undefined
  /** Path in the record key, fixed when the stream begins. */
  readonly keyPath: string
}

export interface SealedBatch {
  readonly start: number
  readonly end: number
  readonly tailHashEnd: HashText
  readonly recordCount: number
  readonly envelope: Buffer
  readonly batch: Buffer
  readonly crc: number
}

/** What the collector has, as far as we know. */
export interface Settled {
  readonly position: number
  readonly tailHash: HashText
  readonly recordCount: number
}

/** The place of a batch in the queue, taken when its lines are framed and filled when it is sealed. */
export interface QueuePlace {
  batches: readonly SealedBatch[] | undefined
}

export type StreamState =
  | { readonly kind: 'shipping' }
  /** The collector refused a batch for good. */
  | { readonly kind: 'parked'; readonly reason: string }
  /** The collector's position is not one of ours: the file decides again which stream it is. */
  | { readonly kind: 'moved'; readonly reason: 'have' | 'expected' | 'diverged' }

/** Of a stream that has nothing on its way, as most have. */
const NO_PLACES: readonly QueuePlace[] = []
const SHIPPING: StreamState = { kind: 'shipping' }

export class Stream {
  readonly identity: StreamIdentity
  state: StreamState = SHIPPING
  settled: Settled
  /** Whether a request that carries batches of this stream is under way: the next ones wait for its answer. */
  isInFlight = false
  /** Monotonic time before which nothing is resent, and how often in a row the collector said `later`. */
  retryAtMs = 0
  attempts = 0
  /** Monotonic time of the last acknowledgement, once there was one. */
  ackedAtMs = 0
  private places: readonly QueuePlace[] = NO_PLACES

  constructor(identity: StreamIdentity, settled: Settled) {
    this.identity = identity
    this.settled = settled
  }

  get isIdle(): boolean {
    return this.places.length === 0 && !this.isInFlight
  }

  get placeCount(): number {
    return this.places.length
  }

  get pendingBytes(): number {
    let bytes = 0
    for (const place of this.places) for (const batch of place.batches ?? []) bytes += heldBytes(batch)
    return bytes
  }

  /** Takes the next place in file order; `fill` it when the batch is sealed. */
  reserve(): QueuePlace {
    const place: QueuePlace = { batches: undefined }
    this.places = [...this.places, place]
    return place
  }

  /** False when the queue was dropped meanwhile: then the batches are nobody's, and their bytes are still in the file. */
  fill(place: QueuePlace, batches: readonly SealedBatch[]): boolean {
    if (!this.places.includes(place)) return false
    place.batches = batches
    return true
  }

  /** Whether the head of the queue can be sent. */
  hasSealed(): boolean {
    return this.places[0]?.batches !== undefined
  }

  /** Sealed batches from the head of the queue, without a gap, of at most `bytesMax` but at least one. */
  take(bytesMax: number): SealedBatch[] {
    const taken: SealedBatch[] = []
    let bytes = 0
    for (const place of this.places) {
      if (place.batches === undefined) break
      for (const batch of place.batches) {
        bytes += heldBytes(batch)
        if (taken.length > 0 && bytes > bytesMax) return taken
        taken.push(batch)
      }
    }
    return taken
  }

  /** The head batch is stored and synced. Answers the bytes that this frees. */
  settleHead(batch: SealedBatch): number {
    const place = this.places[0]
    const head = place?.batches?.[0]
    assert(place?.batches !== undefined && head === batch, 'batches are settled in order')
    if (place.batches.length === 1) this.places = this.places.length === 1 ? NO_PLACES : this.places.slice(1)
    else place.batches = place.batches.slice(1)
    this.settled = {
      position: batch.end,
      tailHash: batch.tailHashEnd,
      recordCount: this.settled.recordCount + batch.recordCount,
    }
    return heldBytes(batch)
  }

  /** Forgets what is queued; its bytes are read from the file again. Answers the bytes that this frees. */
  drop(): number {
    const bytes = this.pendingBytes
    this.places = NO_PLACES
    return bytes
  }
}

export function heldBytes(batch: SealedBatch): number {
  return batch.batch.length + batch.envelope.length
}

export interface NewStream extends Omit<StreamIdentity, 'idHex'> {
  readonly agentId: string
}

export function newIdentity(options: NewStream): StreamIdentity {
  return identityOf(options, hashText(streamId(options)))
}

/** A stream that the collector knows; its id is taken as it is. */
export function knownIdentity(stream: Omit<StreamIdentity, 'idHex' | 'supersedes'> & { readonly id: HashText }): StreamIdentity {
  return identityOf({ ...stream, supersedes: undefined }, stream.id)
}

/** Nothing but what it is: there is one for each file. */
function identityOf({ topic, inode, birthtimeNs, generation, supersedes, keyPath }: Omit<StreamIdentity, 'idHex'>, idHex: HashText): StreamIdentity {
  return { idHex, topic, inode, birthtimeNs, generation, supersedes, keyPath }
}
