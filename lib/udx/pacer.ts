/**
 * Spreads packets over time at a given rate: a bucket that fills at that rate and holds what a timer's delay may cost.
 * Pacing keeps bursts out of the small buffers on the way, of which a socket's receive buffer (208 KiB on Linux) is the
 * smallest (RFC 9002, section 7.7; BBR draft, section 5.6.2).
 */

/** Milliseconds of sending that the bucket holds: the runtimes' timers fire a millisecond late and more. */
const BURST_TIME = 2

/** The bucket never holds less than this many bytes: ten packets, as much as any sender may start with (RFC 6928). */
const MIN_BURST = 10 * 1500

export class Pacer {
  #allowance = MIN_BURST
  #filledAt = 0

  /** Bytes that may leave now. `rate` in bytes per millisecond. */
  available(now: number, rate: number): number {
    const burst = Math.max(MIN_BURST, rate * BURST_TIME)
    this.#allowance = Math.min(burst, this.#allowance + (now - this.#filledAt) * rate)
    this.#filledAt = now
    return this.#allowance
  }

  spend(bytes: number): void {
    this.#allowance -= bytes
  }

  /** When a packet may leave again: time of the clock in milliseconds. Waits for a few packets, not for each. */
  readyAt(now: number, rate: number): number {
    return now + Math.max(0, Math.min(MIN_BURST, rate) - this.#allowance) / rate
  }
}
