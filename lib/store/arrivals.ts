import type { Digest } from '../oci/digest.ts'
import { OVER, unlessAborted } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import { freeMemory } from '../platform/runtime.ts'
import type { Arrival } from './arrival.ts'
import type { ContentStore } from './store.ts'

/** How many of its last bytes are kept of a blob that passes: containerd writes them to disk only after another 1 MiB. */
const KEPT = 2 * 1024 * 1024
/**
 * How many blobs have bytes kept, which is only done while somebody reads them. Readers of other blobs get bytes from the
 * store.
 */
const MOST_KEPT = 8
/** Bytes read at a time. */
const CHUNK_SIZE = 128 * 1024

/**
 * The content that arrives at this node, for its followers. If a blob comes from another node, followers can read its last
 * bytes as they pass, before containerd has written them into the store. So each node in a long chain has them sooner.
 */
export class Arrivals implements Pick<ContentStore, 'arriving'> {
  readonly #store: Pick<ContentStore, 'arriving'>
  readonly #tails = new Map<Digest, Tail>()
  readonly #kept: number
  #keeping = 0

  /** @param kept how many bytes of each blob are kept */
  constructor(store: Pick<ContentStore, 'arriving'>, kept = KEPT) {
    this.#store = store
    this.#kept = kept
  }

  /** As {@link ContentStore.arriving}. */
  arriving(digest: Digest): Arrival | undefined {
    const written = this.#store.arriving(digest)
    if (written === undefined) return undefined
    const { tail, leave } = this.#enter(digest)
    void written.ended.then(leave)
    return new PassingArrival(written, tail, () => this.#keep(tail))
  }

  /** The bytes of a blob from `start` on, which others may read as they pass. */
  passing(digest: Digest, start: number, length: number, source: ByteSource): ByteSource {
    const { tail, leave } = this.#enter(digest)
    let at = start
    let isOver = false
    const end = () => {
      if (isOver) return
      isOver = true
      // If all bytes have passed, containerd will have them.
      if (at < start + length) tail.forget()
      leave()
    }
    return {
      async next() {
        try {
          const chunk = await source.next()
          if (chunk !== undefined && !isOver) {
            tail.pass(at, chunk)
            at += chunk.length
          } else end()
          return chunk
        } catch (error) {
          end()
          throw error
        }
      },
      async cancel() {
        end()
        await source.cancel()
      },
    }
  }

  #enter(digest: Digest) {
    const tail = this.#tails.get(digest) ?? new Tail(this.#kept)
    this.#tails.set(digest, tail)
    tail.users++
    const leave = () => {
      tail.users--
      if (tail.users === 0) this.#tails.delete(digest)
    }
    return { tail, leave }
  }

  /** Keeps bytes that pass from now on, until the result is disposed of. */
  #keep(tail: Tail): Disposable {
    if (tail.readers === 0 && this.#keeping === MOST_KEPT) return { [Symbol.dispose]: () => undefined }
    if (tail.readers++ === 0) this.#keeping++
    return {
      [Symbol.dispose]: () => {
        if (--tail.readers > 0) return
        this.#keeping--
        tail.free()
      },
    }
  }
}

/** The last bytes of a blob that have passed. */
class Tail {
  users = 0
  readers = 0
  /** The offset of their end. */
  written = 0
  /** The offset at which the current unbroken run of bytes began. */
  #from = 0
  /** A ring buffer: the byte of an offset is at that offset modulo the ring's length. */
  #ring: Uint8Array | undefined
  /** How many bytes are in the ring. */
  #kept = 0
  readonly #most: number
  #changed = Promise.withResolvers<void>()

  /** @param most how many bytes are kept */
  constructor(most: number) {
    this.#most = most
  }

  /** Resolves when more bytes have passed. */
  get changed(): Promise<void> {
    return this.#changed.promise
  }

  pass(at: number, bytes: Uint8Array): void {
    if (at !== this.written) {
      this.#from = at
      this.#kept = 0
    }
    if (this.readers > 0) this.#keep(at, bytes)
    this.written = at + bytes.length
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }

  /** Whether bytes have passed from the first one on. */
  get isFromStart(): boolean {
    return this.#from === 0 && this.written > 0
  }

  /** How many bytes of the blob are there, if `there` of them are in the store. */
  beyond(there: number): number {
    return this.#from <= there ? Math.max(there, this.written) : there
  }

  /** Copies bytes from that offset on, as far as they are kept. @returns how many */
  read(at: number, into: Uint8Array): number {
    if (this.#ring === undefined || at >= this.written || at < this.written - this.#kept) return 0
    const index = at % this.#most
    const bytes = this.#ring.subarray(index, index + Math.min(into.length, this.written - at))
    into.set(bytes)
    return bytes.length
  }

  forget(): void {
    this.#from = 0
    this.#kept = 0
    this.written = 0
  }

  free(): void {
    if (this.#ring !== undefined) freeMemory(this.#ring)
    this.#ring = undefined
    this.#kept = 0
  }

  #keep(at: number, bytes: Uint8Array): void {
    this.#ring ??= new Uint8Array(this.#most)
    const last = bytes.subarray(-this.#most)
    const index = (at + bytes.length - last.length) % this.#most
    const room = this.#most - index
    this.#ring.set(last.subarray(0, room), index)
    this.#ring.set(last.subarray(room))
    this.#kept = Math.min(this.#kept + bytes.length, this.#most)
  }
}

/** An arrival of the store, together with the bytes that are on their way into it. */
class PassingArrival implements Arrival {
  readonly ended: Arrival['ended']
  readonly #stored: Arrival
  readonly #tail: Tail
  readonly #keep: () => Disposable
  readonly #stop = new AbortController()
  #stores: Promise<void> | undefined
  /** How many bytes the store had when it was last asked, which may take a look at a file. */
  #there = 0
  #hasEnded = false

  constructor(stored: Arrival, tail: Tail, keep: () => Disposable) {
    this.#stored = stored
    this.#tail = tail
    this.#keep = keep
    this.ended = stored.ended
    void stored.ended.then(() => {
      this.#hasEnded = true
    })
  }

  get size(): number | undefined {
    return this.#stored.size
  }

  get written(): number {
    // Mostly these are the bytes that are being written. But another client may have asked for them.
    if (this.#tail.isFromStart) void this.#storing()
    else this.#there = this.#stored.written
    return this.#tail.beyond(this.#there)
  }

  async grown(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    while (this.written <= bytes && !this.#hasEnded)
      await unlessAborted(Promise.race([this.#storing(), this.#tail.changed]), signal)
  }

  async *read(offset: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void, undefined> {
    using _ = this.#keep()
    const buffer = new Uint8Array(CHUNK_SIZE)
    let stored: AsyncIterator<Uint8Array> | undefined
    try {
      for (let at = offset; ; ) {
        await this.grown(at, signal)
        const passed = this.#tail.read(at, buffer)
        if (passed > 0) {
          await stored?.return?.()
          stored = undefined
          at += passed
          yield buffer.subarray(0, passed)
          continue
        }
        stored ??= this.#stored.read(at, signal)[Symbol.asyncIterator]()
        const { value } = await stored.next()
        if (value === undefined) return
        at += value.length
        yield value
      }
    } finally {
      await stored?.return?.()
    }
  }

  close(): void {
    this.#stop.abort(OVER)
    this.#stored.close()
  }

  /** Resolves when the store has more than now, or when its arrival has ended. */
  #storing(): Promise<void> {
    const over = () => {
      this.#stores = undefined
    }
    if (this.#stores === undefined) {
      this.#there = this.#stored.written
      this.#stores = this.#stored.grown(this.#there, this.#stop.signal).then(over, over)
    }
    return this.#stores
  }
}
