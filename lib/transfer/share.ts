import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Slots } from './slots.ts'
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
  /** Memory for what it keeps. */
  readonly slots: Slots
  /** Told once, when it takes no more readers on: nobody reads it any more, or its source has failed. */
  readonly onRetire: () => void
}

interface Piece {
  readonly start: number
  /** Of the size of all slots, or, for a longer chunk, as long as that. */
  readonly slot: Uint8Array<ArrayBuffer>
  /** How much of the slot is filled. */
  length: number
  /** Has seen all bytes up to the end of this piece; missing for the last one, after which there is nothing to verify. */
  verifier: Verifier | undefined
  /** Readers that were given bytes of it and may still use them. */
  lent: number
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

  /** How many bytes of memory it keeps. */
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
    for (const piece of this.#pieces.splice(0)) this.#freeUnlessUsed(piece)
    this.#kept = 0
    this.#retire()
    await this.#dependencies.source.cancel()
  }

  /** The piece with the byte at that offset, if it is kept. */
  pieceAt(offset: number): Piece | undefined {
    // From the end: readers are close to the head.
    return this.#pieces.findLast(({ start, length }) => start <= offset && offset < start + length)
  }

  /** To be told when a reader is done with what it was given of a piece. */
  giveBack(piece: Piece): void {
    piece.lent--
    this.#freeUnlessUsed(piece)
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

  /** Copies the bytes, whose memory is the source's. */
  #keep(bytes: Uint8Array): void {
    const start = this.#head
    this.#head += bytes.length
    const verifier = this.#head >= this.#dependencies.size ? undefined : this.#dependencies.verifier?.copy()
    const last = this.#pieces.at(-1)
    if (last !== undefined && last.length + bytes.length <= last.slot.length) {
      last.slot.set(bytes, last.length)
      last.length += bytes.length
      last.verifier = verifier
      return
    }
    const { slots } = this.#dependencies
    const slot = bytes.length <= slots.size ? slots.take() : new Uint8Array(bytes.length)
    slot.set(bytes)
    this.#pieces.push({ start, slot, length: bytes.length, verifier, lent: 0 })
    this.#kept += slot.length
    this.#trim()
  }

  #trim(): void {
    const window = this.#window()
    // The newest piece stays whatever its size: somebody has asked for it.
    while (this.#kept > window && this.#pieces.length > 1) {
      for (const piece of this.#pieces.splice(0, 1)) {
        this.#kept -= piece.slot.length
        this.#freeUnlessUsed(piece)
      }
    }
  }

  #freeUnlessUsed(piece: Piece): void {
    const { slots } = this.#dependencies
    if (piece.lent === 0 && piece.slot.length === slots.size && !this.#pieces.includes(piece)) slots.give(piece.slot)
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
  /** What it was given bytes of and may still use. */
  #held: Piece | undefined
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
    if (this.#held !== undefined) this.#flow.giveBack(this.#held)
    this.#held = undefined
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
    // What it was given may still be on its way to a client: that is left to the garbage collector.
    await Promise.all([this.#flow.detach(this), this.#alone?.cancel()])
  }

  #take(piece: Piece): Uint8Array {
    const { start, slot, length, verifier } = piece
    const chunk = slot.subarray(this.#offset - start, Math.min(length, this.#end - start))
    this.#offset += chunk.length
    this.#verifier = verifier
    this.#held = piece
    piece.lent++
    if (this.#offset >= this.#end) void this.#flow.detach(this)
    return chunk
  }
}
