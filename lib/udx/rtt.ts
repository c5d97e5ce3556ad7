/**
 * Round-trip time and what follows from it, in milliseconds. The smoothing is that of RFC 6298, section 2.
 */

/** Before the first sample : that of RFC 9002, section 6.2.2. A probe goes after one of it, not three, since a needless one costs a packet. */
const INITIAL_RTT = 333

/** Resolution of the timers of the three runtimes. */
export const GRANULARITY = 1

/**
 * How long a peer may sit on an acknowledgement. It acknowledges once per turn of its event loop, which is usually under
 * a millisecond; this allows for a collection of garbage.
 */
const ACK_DELAY = 8

export class RoundTrip {
  /** Smoothed; 0 before the first sample. */
  smoothed = 0
  variation = 0
  latest = 0
  /** Smallest ever seen; infinity before the first sample. */
  minimum = Number.POSITIVE_INFINITY

  /** Takes a sample, of a packet that was sent only once (Karn's algorithm: others are ambiguous). */
  sample(rtt: number): void {
    this.latest = rtt
    if (rtt < this.minimum) this.minimum = rtt
    if (this.smoothed === 0) {
      this.smoothed = Math.max(rtt, Number.MIN_VALUE)
      this.variation = rtt / 2
      return
    }
    this.variation += (Math.abs(this.smoothed - rtt) - this.variation) / 4
    this.smoothed += (rtt - this.smoothed) / 8
  }

  /** Forgets the path, after it has changed. */
  reset(): void {
    this.smoothed = 0
    this.variation = 0
    this.latest = 0
    this.minimum = Number.POSITIVE_INFINITY
  }

  /** How long to wait for an acknowledgement before probing (RFC 9002, section 6.2.1). */
  get probeTimeout(): number {
    if (this.smoothed === 0) return INITIAL_RTT
    return this.smoothed + Math.max(4 * this.variation, GRANULARITY) + ACK_DELAY
  }
}
