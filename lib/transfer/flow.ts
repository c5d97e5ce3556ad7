import { PeerError } from '../peers/error.ts'
import { OVER, until } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'
import { freeMemory } from '../platform/runtime.ts'
import type { Span } from './line.ts'
import type { Verifier } from './verify.ts'

export interface FlowDependencies {
  /** The bytes of the span. */
  readonly source: ByteSource
  readonly span: Span
  /** What has seen exactly the bytes that the source has given; missing if they are not verified. */
  readonly verifier?: Verifier | undefined
  /**
   * The bytes of a span for a reader that has become too slow to follow.
   *
   * @param verifier has seen all bytes before them; missing if that cannot be said
   */
  readonly alone: (span: Span, verifier: Verifier | undefined) => ByteSource
  /** How many bytes may be kept at this moment. */
  readonly window: () => number
  /** Told once, when it takes no more readers on. */
  readonly onRetire: () => void
  /** Whether requests for other parts are to be expected: then it goes on to take readers on when only one is left, or none. */
  readonly isShared: () => boolean
  readonly clock: Clock
}

/**
 * How far ahead a reader may wait for the flow to come to it, in bytes. containerd fetches a layer in parallel by a request for
 * each chunk; with small ones, as many flows would come to ask for much more than the layer.
 */
const REACH = 8 * 1024 * 1024
/**
 * Milliseconds for which a reader rests at the end of its chunk. containerd asks for all that follows and leaves after its
 * chunk; meanwhile some MiB more would go into the buffers of its connection, and be fetched again for the next chunk.
 */
export const REST = 500
/** Milliseconds for which a flow without readers waits for the request for the next chunk. */
export const LINGER = 1_000

interface Kept {
  readonly start: number
  readonly bytes: Uint8Array
  /** Has seen all bytes up to the end of these; missing for the last ones, after which there is nothing to verify. */
  readonly verifier: Verifier | undefined
  /** Readers that were given bytes of it and may still use them. */
  lent: number
}

/**
 * One source for several readers. The last bytes that were read are kept, up to a window: a reader within it, or not far ahead,
 * follows; one that falls behind goes on alone. The source is read only when the foremost reader wants more, so that the
 * slowness of all readers together is back-pressure, and that of one holds up no other.
 *
 * A reader that is left alone at the head reads the source itself, and the flow takes no more readers on.
 */
export class Flow {
  /** How many bytes of memory it keeps. */
  kept = 0
  readonly #dependencies: FlowDependencies
  readonly #fresh: Verifier | undefined
  readonly #readers = new Set<ByteSource>()
  #line: Kept[] = []
  #head: number
  #reading: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined
  #isRetired = false
  #isClosed = false
  #cancelLinger = (): void => undefined

  constructor(dependencies: FlowDependencies) {
    this.#dependencies = dependencies
    this.#head = dependencies.span.start
    this.#fresh = dependencies.verifier?.copy()
  }

  get isRead(): boolean {
    return this.#readers.size > 0
  }

  /**
   * A reader of that span; `undefined` if the flow does not have it, has let go of it, or will not come to it soon.
   *
   * @param leavesAt where its client is expected to leave
   * @param onStay told if it does not
   */
  attach({ start, end }: Span, leavesAt = end, onStay = (): void => undefined): ByteSource | undefined {
    const { source, span, alone, clock } = this.#dependencies
    const isFar = start > this.#head + REACH || end > span.end
    if (this.#isRetired || isFar || this.#hasPassed(start)) return undefined
    this.#cancelLinger()
    let offset = start
    let stop = leavesAt
    /** Has seen all bytes before the offset, if that can be said. */
    let verifier = start === span.start ? this.#fresh : undefined
    /** What it was given bytes of and may still use. */
    let held: Kept | undefined
    /** What it reads once it has fallen behind, or is alone. */
    let rest: ByteSource | undefined
    const cancelled = new AbortController()
    const reader: ByteSource = {
      next: async () => {
        if (held !== undefined) this.#giveBack(held)
        held = undefined
        while (rest === undefined) {
          if (cancelled.signal.aborted) throw new PeerError('cancelled')
          if (offset >= end) {
            // Of empty content, the end is all that there is to verify.
            if (span.start === span.end) await source.next()
            void this.#detach(reader)
            return undefined
          }
          if (offset >= stop) {
            stop = end
            await until(clock, clock.now() + REST, cancelled.signal).then(onStay, () => undefined)
            continue
          }
          if (offset === this.#head && end === span.end && this.#isAlone) {
            this.#trim(0)
            this.#retire()
            rest = source
            break
          }
          if (this.#hasPassed(offset)) {
            rest = alone({ start: offset, end }, verifier?.copy())
            void this.#detach(reader)
            break
          }
          // From the end: readers are close to the head.
          held = this.#line.findLast((kept) => kept.start <= offset && offset < kept.start + kept.bytes.length)
          if (held === undefined) {
            await this.#more()
            continue
          }
          held.lent++
          const chunk = held.bytes.subarray(offset - held.start, Math.min(end, stop) - held.start)
          offset += chunk.length
          verifier = held.verifier
          return chunk
        }
        return await rest.next()
      },
      cancel: async () => {
        cancelled.abort(OVER)
        // What it was given may still be on its way to a client: that is left to the garbage collector.
        await Promise.all([this.#detach(reader), rest?.cancel()])
      },
    }
    this.#readers.add(reader)
    return reader
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#cancelLinger()
    this.#trim(0)
    this.#retire()
    await this.#dependencies.source.cancel()
  }

  /** Takes a reader off, and ends the flow when this was its last one and no other is to be expected. */
  async #detach(reader: ByteSource): Promise<void> {
    if (!this.#readers.delete(reader) || this.isRead) return
    const { isShared, span, clock } = this.#dependencies
    if (isShared() && !this.#isRetired && this.#head < span.end) {
      this.#cancelLinger = clock.after(LINGER, () => void this.close())
    } else await this.close()
  }

  /** A reader is done with what it was given. */
  #giveBack(kept: Kept): void {
    kept.lent--
    if (!this.#line.includes(kept)) free(kept)
  }

  /** Whether nobody has joined its only reader within the window, nobody is to be expected, and no other has begun to read. */
  get #isAlone(): boolean {
    const { span, window, isShared } = this.#dependencies
    const isLast = this.#readers.size === 1 && this.#reading === undefined
    return isLast && !isShared() && this.#head - span.start >= window()
  }

  /** Whether the byte at the offset was let go. */
  #hasPassed(offset: number): boolean {
    return offset < (this.#line[0]?.start ?? this.#head)
  }

  /** Waits for bytes beyond the head. Readers that wait at the same time wait for the same bytes. */
  async #more(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error
    if (this.#isClosed || this.#head >= this.#dependencies.span.end) throw new PeerError('the flow has ended')
    this.#reading ??= this.#read()
    await this.#reading
  }

  async #read(): Promise<void> {
    const { source, span, verifier, window } = this.#dependencies
    try {
      const bytes = await source.next()
      if (bytes === undefined) throw new PeerError(`the source ended before ${this.#head}`)
      if (this.#isClosed) return
      const start = this.#head
      this.#head += bytes.length
      const seen = this.#head < span.end ? verifier?.copy() : undefined
      // The source may use their memory again.
      this.#line.push({ start, bytes: new Uint8Array(bytes), verifier: seen, lent: 0 })
      this.kept += bytes.length
      this.#trim(window())
    } catch (error) {
      this.#failure = { error }
      // Its readers may still read what is kept, but a new one must not fail with them.
      this.#retire()
      throw error
    } finally {
      this.#reading = undefined
    }
  }

  #retire(): void {
    if (this.#isRetired) return
    this.#isRetired = true
    this.#dependencies.onRetire()
  }

  #trim(most: number): void {
    // The newest stays whatever its size, unless all go: somebody has asked for it.
    while (this.kept > most && this.#line.length > (most === 0 ? 0 : 1)) {
      for (const kept of this.#line.splice(0, 1)) {
        this.kept -= kept.bytes.length
        free(kept)
      }
    }
  }
}

function free({ bytes, lent }: Kept): void {
  if (lent === 0) freeMemory(bytes)
}
