import type { Digest } from '../oci/digest.ts'
import { OCTET_STREAM } from '../oci/media-type.ts'
import { parseRange } from '../oci/range.ts'
import { FOLLOWER_HEADER } from '../peers/credentials.ts'
import { bounded, OVER, onAbort } from '../platform/abort.ts'
import { type ByteSource, putBack, sourceResponse } from '../platform/byte-source.ts'
import { type Clock, systemClock } from '../platform/clock.ts'
import { type Arrival, ArrivalError } from '../store/arrival.ts'
import { type ContentStore, partOf } from '../store/store.ts'
import { contentHead, rangeHeaderOf } from './answer.ts'
import type { DoorMiddleware } from './door.ts'

/** Milliseconds for which a follower may wait for the first byte of its range: this node has it in a moment, or never. */
const WAIT = 300
/** Milliseconds after which a follower that does not read loses its place to the next one. */
const IDLE = 500
/** Characters of an IPv4 address and a port. */
const LONGEST_ADDRESS = 21

/** The place of one follower of a blob. */
interface Place {
  readonly digest: Digest
  /** The address that it claims. */
  readonly follower: string
  /** When it was given the chunk that it has not taken yet. */
  givenAt: number | undefined
}

/**
 * The nodes that follow this one: they get blobs while containerd on this node downloads them. A keeper sends one follower, or
 * more if this node has said that it has room. Keepers that do not know each other may send too many, so the rest is refused.
 */
export class Followers {
  readonly arrivals: Pick<ContentStore, 'arriving'>
  readonly #places = new Set<Place>()
  readonly #room: () => number
  readonly clock: Clock

  /** @param room how many can follow a blob at a time */
  constructor(arrivals: Pick<ContentStore, 'arriving'>, room: () => number, clock: Clock = systemClock) {
    this.arrivals = arrivals
    this.#room = room
    this.clock = clock
  }

  /** The followers of each digest, by the addresses that they claim. */
  get all(): Readonly<Record<string, string>> {
    const all = [...Map.groupBy(this.#places, ({ digest }) => digest)].map(([digest, places]) => {
      return [digest, places.map(({ follower }) => follower.slice(0, LONGEST_ADDRESS)).join(', ')] as const
    })
    return Object.fromEntries(all)
  }

  /** Takes a place for a follower of the blob; `undefined` if other followers have all of them. */
  follow(digest: Digest, follower: string): Place | undefined {
    const latest = this.clock.now() - IDLE
    const ofBlob = [...this.#places].filter((place) => place.digest === digest)
    const isFree = ({ follower: other, givenAt = latest }: Place) => other === follower || givenAt < latest
    const free = ofBlob.filter(isFree)
    if (ofBlob.length - free.length >= this.#room()) return undefined
    for (const place of free) this.leave(place)
    const place = { digest, follower, givenAt: undefined }
    this.#places.add(place)
    return place
  }

  leave(place: Place): void {
    this.#places.delete(place)
  }
}

/**
 * Answers a follower with a blob that containerd is still writing: first the bytes that are there, then the others as they
 * come. Only followers get it, because nobody has verified it yet, and only if its size is known.
 */
export function fromArrival(followers: Followers): DoorMiddleware {
  return async function fromArrival(c, next) {
    const target = c.get('target')
    const request = c.req.raw
    const follower = c.req.header(FOLLOWER_HEADER)
    if (follower === undefined || target.kind !== 'blob' || request.method !== 'GET') return await next()
    const { digest } = target
    const arrival = followers.arrivals.arriving(digest)
    const requested = parseRange(rangeHeaderOf(target, request) ?? null, arrival?.size ?? 0)
    const range = requested.kind === 'part' ? requested.range : undefined
    const place =
      arrival?.size !== undefined &&
      requested.kind !== 'unsatisfiable' &&
      (await hasByte(arrival, range?.start ?? 0, request.signal, followers.clock)) &&
      followers.follow(digest, follower)
    if (arrival?.size === undefined || !place) {
      arrival?.close()
      return await next()
    }
    const descriptor = { mediaType: OCTET_STREAM, digest, size: arrival.size }
    const { start, length } = partOf(range, arrival.size)
    const body = bytesOf(arrival, start, length, place, followers)
    // Reading begins here, because only a reader has passing bytes kept for it: the others come when containerd has written them.
    let first: Uint8Array | undefined
    try {
      using _ = onAbort(request.signal, () => void body.cancel())
      first = await body.next()
    } catch (error) {
      await body.cancel()
      if (!(error instanceof ArrivalError) || error.cause !== undefined) throw error
      // containerd has aborted the download before its first byte.
      return await next()
    }
    return sourceResponse(putBack(first, body), contentHead(c, descriptor, range, 'local'))
  }
}

/**
 * Whether the byte at that offset is there or comes within {@link WAIT}. The first byte may take as long as the follower waits.
 */
async function hasByte(arrival: Arrival, at: number, signal: AbortSignal, clock: Clock): Promise<boolean> {
  if (at > 0) await bounded(WAIT, signal, (stop) => arrival.grown(at, stop), clock).catch(() => undefined)
  return at === 0 || arrival.written > at
}

/** A range of the blob that arrives. It fails when containerd aborts the download. */
function bytesOf(arrival: Arrival, start: number, length: number, place: Place, followers: Followers): ByteSource {
  const stop = new AbortController()
  const bytes = arrival.read(start, stop.signal)[Symbol.asyncIterator]()
  let left = length
  const cancel = async () => {
    followers.leave(place)
    stop.abort(OVER)
    arrival.close()
    // It rests where it gave its last chunk, and holds what it keeps for the next one.
    await bytes.return?.()
  }
  return {
    async next() {
      place.givenAt = undefined
      const { value } = left === 0 ? { value: undefined } : await bytes.next()
      if (value === undefined) {
        await cancel()
        return undefined
      }
      const chunk = value.subarray(0, left)
      left -= chunk.length
      place.givenAt = followers.clock.now()
      return chunk
    },
    cancel,
  }
}
