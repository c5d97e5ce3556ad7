/** Size of a block in bytes: about forty packets. */
const BLOCK = 64 * 1024

/**
 * Memory for outgoing packets, cut from blocks. A block is given back when none of its packets is referenced any longer;
 * pieces are never used twice, so a datagram that the runtime has not yet sent cannot change.
 */
export class Slab {
  #block = Buffer.alloc(0)
  #used = 0

  /** A piece of `size` bytes with arbitrary content. */
  take(size: number): Buffer {
    if (this.#used + size > this.#block.length) {
      this.#block = Buffer.allocUnsafeSlow(Math.max(BLOCK, size))
      this.#used = 0
    }
    const start = this.#used
    this.#used = start + size
    return this.#block.subarray(start, this.#used)
  }
}
