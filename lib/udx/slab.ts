import b4a from 'b4a'

/** Size of a block in bytes: about forty packets. */
const BLOCK = 64 * 1024

/**
 * Memory for outgoing packets, cut from blocks: one allocation for forty packets instead of one each. No piece is used twice,
 * so a datagram that the runtime has not sent yet cannot change. A block is freed with the last of its pieces.
 */
export class Slab {
  #block = b4a.alloc(0)
  #used = 0

  /** A piece of `size` bytes with arbitrary content. */
  take(size: number): Uint8Array {
    if (this.#used + size > this.#block.length) {
      this.#block = b4a.allocUnsafeSlow(Math.max(BLOCK, size))
      this.#used = 0
    }
    const start = this.#used
    this.#used = start + size
    return this.#block.subarray(start, this.#used)
  }
}
