import type { ByteSource } from '../runtime/byte-source.ts'
import { PeerError } from './peer-error.ts'
import type { Verifier } from './verify.ts'

export interface SharedFlowDependencies {
  /** The whole of the content, of `size` bytes. */
  readonly source: ByteSource
  readonly size: number
  /** What has seen exactly the bytes that the source has given; missing if they are not verified. */
  readonly verifier?: Verifier | undefined
  /**
   * The bytes from `start` to `end` for a reader that has become too slow to follow.
   *
   * @param verifier has seen all bytes before `start`; missing if that cannot be said
   */
  readonly alone: (start: number, end: number, verifier: Verifier | undefined) => ByteSource
  /** Told once, when it takes no more readers on: nobody reads it any more, or its source has failed. */
  readonly onRetire: () => void
}

interface Piece {
  readonly start: number
  readonly bytes: Uint8Array
  /** Has seen all bytes up to the end of this piece; missing for the last one, after which there is nothing to verify. */
  readonly verifier: Verifier | undefined
}

/**
 * One source for several readers. The last bytes that were read are kept, up to a window: who is within it follows, who
 * falls behind it goes on alone. The source is read only when the foremost reader wants more, so that the slowness of all
 * readers together is back-pressure, and that of one holds up nobody else.
 */
export class SharedFlow {
  readonly #dependencies: SharedFlowDependencies
  readonly #window: () => number
  readonly #fresh: Verifier | undefined
  readonly #readers = new Set<SharedReader>()
  readonly #pieces: Piece[] = []
  #kept = 0
  #head = 0
  #reading: Promise<void> | undefined
  #failure: { readonly error: unknown } | undefined
  /** Whether it takes no more readers on. */
  #retired = false
  #closed = false

  /** @param window how many bytes may be kept at this moment */
  constructor(dependencies: SharedFlowDependencies, window: () => number) {
    this.#dependencies = dependencies
    this.#window = window
    this.#fresh = dependencies.verifier?.copy()
  }

  /** How many bytes it keeps. */
  get kept(): number {
    return this.#kept
  }

  get isRead(): boolean {
    return this.#readers.size > 0
  }

  /** A reader of the bytes from `start` to `end`; `undefined` if the flow has let go of them, or has not come to them. */
  attach(start: number, end: number): ByteSource | undefined {
    if (this.#retired || start < this.#tail || start > this.#head) return undefined
    const reader = new SharedReader(this, start, end, start === 0 ? this.#fresh : undefined)
    this.#readers.add(reader)
    return reader
  }

  /** Takes a reader off, and ends the flow when this was its last one. */
  async detach(reader: SharedReader): Promise<void> {
    if (this.#readers.delete(reader) && !this.isRead) await this.close()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#pieces.length = 0
    this.#kept = 0
    this.#retire()
    await this.#dependencies.source.cancel()
  }

  /** The piece with the byte at that offset, if it is kept. */
  pieceAt(offset: number): Piece | undefined {
    // From the end: readers are close to the head.
    return this.#pieces.findLast(({ start, bytes }) => start <= offset && offset < start + bytes.length)
  }

  /** Whether the byte at the offset was let go. */
  hasPassed(offset: number): boolean {
    return offset < this.#tail
  }

  /** Waits for bytes beyond the head. Readers that wait at the same time wait for the same bytes. */
  async more(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error
    if (this.#closed || this.#head >= this.#dependencies.size) throw new PeerError('the flow has ended')
    this.#reading ??= this.#read()
    await this.#reading
  }

  /** Lets a reader go on without the flow. */
  leave(reader: SharedReader, start: number, end: number, verifier: Verifier | undefined): ByteSource {
    void this.detach(reader)
    return this.#dependencies.alone(start, end, verifier)
  }

  get #tail(): number {
    return this.#pieces[0]?.start ?? this.#head
  }

  async #read(): Promise<void> {
    try {
      const bytes = await this.#dependencies.source.next()
      if (bytes === undefined) throw new PeerError(`the source ended after ${this.#head} bytes`)
      if (!this.#closed) this.#keep(bytes)
    } catch (error) {
      this.#failure = { error }
      // Its readers may have what there is; who comes now shall not fail with them.
      this.#retire()
      throw error
    } finally {
      this.#reading = undefined
    }
  }

  #retire(): void {
    if (this.#retired) return
    this.#retired = true
    this.#dependencies.onRetire()
  }

  #keep(bytes: Uint8Array): void {
    const start = this.#head
    this.#head += bytes.length
    const isLast = this.#head >= this.#dependencies.size
    this.#pieces.push({ start, bytes, verifier: isLast ? undefined : this.#dependencies.verifier?.copy() })
    this.#kept += bytes.length
    const window = this.#window()
    // The newest piece stays whatever its size: somebody has asked for it.
    while (this.#kept > window && this.#pieces.length > 1) {
      this.#kept -= this.#pieces.shift()?.bytes.length ?? 0
    }
  }
}

/** One reader of a shared flow, and of a source of its own once it has fallen behind. */
class SharedReader implements ByteSource {
  readonly #flow: SharedFlow
  readonly #end: number
  #offset: number
  /** Has seen all bytes before the offset, if that can be said. */
  #verifier: Verifier | undefined
  #alone: ByteSource | undefined
  #cancelled = false

  constructor(flow: SharedFlow, start: number, end: number, verifier: Verifier | undefined) {
    this.#flow = flow
    this.#offset = start
    this.#end = end
    this.#verifier = verifier
    // An empty body has nobody to wait for its end.
    if (start === end) queueMicrotask(() => void this.#flow.detach(this))
  }

  async next(): Promise<Uint8Array | undefined> {
    while (this.#alone === undefined) {
      if (this.#cancelled) throw new PeerError('cancelled')
      if (this.#offset >= this.#end) return undefined
      if (this.#flow.hasPassed(this.#offset)) {
        this.#alone = this.#flow.leave(this, this.#offset, this.#end, this.#verifier?.copy())
        break
      }
      const piece = this.#flow.pieceAt(this.#offset)
      if (piece !== undefined) return this.#take(piece)
      await this.#flow.more()
    }
    return await this.#alone.next()
  }

  async cancel(): Promise<void> {
    this.#cancelled = true
    await Promise.all([this.#flow.detach(this), this.#alone?.cancel()])
  }

  #take({ start, bytes, verifier }: Piece): Uint8Array {
    const chunk = bytes.subarray(this.#offset - start, this.#end - start)
    this.#offset += chunk.length
    this.#verifier = verifier
    if (this.#offset >= this.#end) void this.#flow.detach(this)
    return chunk
  }
}
