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
  /** A verifier that has seen exactly the bytes that the source has given; missing if they are not verified. */
  readonly verifier?: Verifier | undefined
  /**
   * Makes a source of a span for a reader that has become too slow for the flow.
   *
   * @param verifier has seen all bytes before the span; missing if that is not known
   */
  readonly alone: (span: Span, verifier: Verifier | undefined) => ByteSource
  /** How many bytes the flow may keep now. */
  readonly window: () => number
  /** Called once, when the flow takes no more readers. */
  readonly onRetire: () => void
  /** Whether requests for other parts are likely. If so, the flow still takes readers when only one is left, or none. */
  readonly isShared: () => boolean
  readonly clock: Clock
}

/**
 * How far ahead of the flow a reader may begin and wait, in bytes. containerd fetches a layer in parallel, with a request for
 * each chunk. If the chunks are small, a flow for each would fetch much more than the layer.
 */
const REACH = 8 * 1024 * 1024
/**
 * Milliseconds for which a reader rests at the end of its chunk. containerd asks for everything from an offset on and leaves
 * after its chunk. Without the rest, some more MiB would go into the buffers of its connection, and be fetched again for the
 * next chunk.
 */
export const REST = 500
/** Milliseconds for which a flow without readers waits for the request for the next chunk. */
export const LINGER = 1_000

interface Kept {
  readonly start: number
  readonly bytes: Uint8Array
  /** Has seen all bytes up to the end of this chunk; missing for the last chunk, after which there is nothing to verify. */
  readonly verifier: Verifier | undefined
  /** How many readers have got bytes of it and may still use them. */
  lent: number
}

/**
 * One source for several readers. It keeps the last bytes that were read, up to a window. A reader within the window, or not
 * far ahead, stays with the flow; one that falls behind goes on alone. The source is read only when the foremost reader wants
 * more. So if all readers are slow, the source is slowed down, but one slow reader does not hold up the others.
 *
 * If only one reader is left, at the head, it reads the source itself, and the flow takes no more readers.
 */
export class Flow {
  /** How many bytes the flow keeps in memory. */
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
   * A reader of that span; `undefined` if the flow does not have it, has dropped it, or will not reach it soon.
   *
   * @param leavesAt the offset at which the client will probably leave
   * @param onStay called if the client does not leave there
   */
  attach({ start, end }: Span, leavesAt = end, onStay = (): void => undefined): ByteSource | undefined {
    const { source, span, alone, clock } = this.#dependencies
    const isFar = start > this.#head + REACH || end > span.end
    if (this.#isRetired || isFar || this.#hasPassed(start)) return undefined
    this.#cancelLinger()
    let offset = start
    let stop = leavesAt
    /** Has seen all bytes before the offset; `undefined` if that is not known. */
    let verifier = start === span.start ? this.#fresh : undefined
    /** The chunk of which the reader has bytes that it may still use. */
    let held: Kept | undefined
    /** The source that it reads once it has fallen behind or is alone. */
    let rest: ByteSource | undefined
    const cancelled = new AbortController()
    const reader: ByteSource = {
      next: async () => {
        if (held !== undefined) this.#giveBack(held)
        held = undefined
        while (rest === undefined) {
          if (cancelled.signal.aborted) throw new PeerError('cancelled')
          if (offset >= end) {
            // Empty content has nothing to verify but its end.
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
          // Search from the end, because readers are close to the head.
          held = this.#line.findLast((kept) => kept.start <= offset && offset < kept.start + kept.bytes.length)
          if (held === undefined) {
            await this.#more()
            continue
          }
          held.lent++
          const chunk = held.bytes.subarray(offset - held.start, Math.min(end, stop) - held.start)
          offset += chunk.length
          // It has seen all of the kept chunk.
          verifier = offset === held.start + held.bytes.length ? held.verifier : undefined
          return chunk
        }
        return await rest.next()
      },
      cancel: async () => {
        cancelled.abort(OVER)
        // The reader's bytes may still be on their way to a client, so the garbage collector frees them.
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

  /** Removes a reader, and ends the flow if it was the last one and no other is likely. */
  async #detach(reader: ByteSource): Promise<void> {
    if (!this.#readers.delete(reader) || this.isRead) return
    const { isShared, span, clock } = this.#dependencies
    if (isShared() && !this.#isRetired && this.#head < span.end) {
      this.#cancelLinger = clock.after(LINGER, () => void this.close())
    } else await this.close()
  }

  /** Call this when a reader is done with its chunk. */
  #giveBack(kept: Kept): void {
    kept.lent--
    if (!this.#line.includes(kept)) free(kept)
  }

  /** Whether the only reader is alone: nobody has joined it within the window or begun to read, and nobody is likely to. */
  get #isAlone(): boolean {
    const { span, window, isShared } = this.#dependencies
    const isLast = this.#readers.size === 1 && this.#reading === undefined
    return isLast && !isShared() && this.#head - span.start >= window()
  }

  /** Whether the byte at the offset has been dropped. */
  #hasPassed(offset: number): boolean {
    return offset < (this.#line[0]?.start ?? this.#head)
  }

  /** Waits for bytes beyond the head. All readers that wait at the same time share one read. */
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
      // Copied, because the source may use their memory again.
      this.#line.push({ start, bytes: new Uint8Array(bytes), verifier: seen, lent: 0 })
      this.kept += bytes.length
      this.#trim(window())
    } catch (error) {
      this.#failure = { error }
      // Present readers may still read the kept bytes, but a new reader must not fail with them.
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
    // The newest chunk stays, whatever its size, unless all must go, because somebody has asked for it.
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
