/** Used buffers at the front of the queue from which on it is worth moving the rest. */
const MAX_USED = 64

/** What has been written and no packet carries yet: buffers in order, taken in pieces of a packet's size. */
export class SendQueue {
  #buffers: Uint8Array[] = []
  /** Index of the first buffer that is not used up: taking from the front moves nothing. */
  #head = 0
  /** Bytes of that buffer that are used up. */
  #offset = 0
  #bytes = 0

  /** Bytes that wait. */
  get bytes(): number {
    return this.#bytes
  }

  push(buffer: Uint8Array): void {
    if (buffer.length === 0) return
    this.#buffers.push(buffer)
    this.#bytes += buffer.length
  }

  /** Copies the next bytes into `target` from `start`, as many as there are up to `length`. @returns how many. */
  take(target: Uint8Array, start: number, length: number): number {
    let taken = 0
    while (taken < length && this.#bytes > 0) {
      const buffer = this.#buffers[this.#head] as Uint8Array
      const count = Math.min(length - taken, buffer.length - this.#offset)
      const whole = this.#offset === 0 && count === buffer.length
      target.set(whole ? buffer : buffer.subarray(this.#offset, this.#offset + count), start + taken)
      taken += count
      this.#bytes -= count
      this.#offset += count
      if (this.#offset === buffer.length) this.#next()
    }
    return taken
  }

  clear(): void {
    this.#buffers = []
    this.#head = 0
    this.#offset = 0
    this.#bytes = 0
  }

  #next(): void {
    this.#offset = 0
    this.#head++
    if (this.#head < this.#buffers.length && this.#head < MAX_USED) return
    this.#buffers.splice(0, this.#head)
    this.#head = 0
  }
}
