/** Bytes of one slot: what one read of a connection gives at most. */
const SIZE = 128 * 1024
/** Free slots that are kept: enough for the flows that read at the same moment. */
const MOST_FREE = 8

/**
 * Memory for the bytes that flows keep, used again by whichever needs some next. A flow that kept memory of its own for
 * its next bytes would need twice as much, and what 50 of them leave to the garbage collector of Bun stays for long.
 */
export class Slots {
  /** Bytes of each slot. */
  readonly size: number
  readonly #mostFree: number
  readonly #free: Uint8Array<ArrayBuffer>[] = []

  constructor(size: number = SIZE, mostFree: number = MOST_FREE) {
    this.size = size
    this.#mostFree = mostFree
  }

  /** A slot with any bytes in it. */
  take(): Uint8Array<ArrayBuffer> {
    return this.#free.pop() ?? new Uint8Array(this.size)
  }

  /** Takes back what {@link take} gave and nobody will look at any more. */
  give(slot: Uint8Array<ArrayBuffer>): void {
    if (this.#free.length < this.#mostFree) this.#free.push(slot)
    // Frees it at once.
    else slot.buffer.transfer(0)
  }
}
