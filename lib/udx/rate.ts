import type { OutgoingPacket } from './outgoing.ts'

/** What the acknowledgements of one turn say about the path. */
export interface RateSample {
  /** Bytes per millisecond; 0 if nothing can be said. */
  rate: number
  /** The sender had less to send than the path would have carried, so the rate is a lower bound. */
  appLimited: boolean
  /** Bytes delivered when the newest acknowledged packet was sent: tells the rounds apart. */
  priorDelivered: number
  /** Bytes newly acknowledged. */
  acked: number
  /** Round-trip time of the newest acknowledged packet in milliseconds; 0 if it was sent twice. */
  rtt: number
}

/**
 * Delivery rate estimation after draft-cheng-iccrg-delivery-rate-estimation-02: each packet carries a snapshot of how much had
 * been delivered when it left. When it is acknowledged, the difference over the longer of the send and the ack interval is
 * the rate.
 */
export class RateSampler {
  /** Bytes acknowledged so far. */
  #delivered = 0
  #deliveredAt = 0
  #firstSentAt = 0
  /** Value of `#delivered` at which the last packet sent for want of data is acknowledged; 0 if there is none. */
  #appLimitedUntil = 0

  #acked = 0
  #newest: OutgoingPacket | undefined
  /** Reused, since there is a sample per turn. */
  readonly #sample: RateSample = { rate: 0, appLimited: false, priorDelivered: 0, acked: 0, rtt: 0 }

  /** Notes that a packet leaves. `idle`: nothing was in flight before it. */
  onSent(packet: OutgoingPacket, now: number, idle: boolean): void {
    if (idle) {
      this.#firstSentAt = now
      this.#deliveredAt = now
    }
    packet.delivered = this.#delivered
    packet.deliveredAt = this.#deliveredAt
    packet.firstSentAt = this.#firstSentAt
    packet.appLimited = this.#appLimitedUntil !== 0
  }

  /** The sender could send but has nothing to send. `inFlight` in bytes. */
  onAppLimited(inFlight: number): void {
    this.#appLimitedUntil = Math.max(1, this.#delivered + inFlight)
  }

  /** Notes that a packet is acknowledged. Several make one sample. */
  onAcked(packet: OutgoingPacket): void {
    this.#acked += packet.size
    const newest = this.#newest
    if (
      newest === undefined ||
      packet.sentAt > newest.sentAt ||
      (packet.sentAt === newest.sentAt && packet.delivered >= newest.delivered)
    ) {
      this.#newest = packet
    }
  }

  /** Ends the sample, after {@link onAcked}. Intervals below `minRtt` are a burst of acknowledgements, not a rate. The result is reused. */
  take(now: number, minRtt: number): RateSample {
    const sample = this.#sample
    const packet = this.#newest as OutgoingPacket
    sample.acked = this.#acked
    this.#delivered += this.#acked
    this.#acked = 0
    this.#newest = undefined
    if (this.#appLimitedUntil !== 0 && this.#delivered > this.#appLimitedUntil) this.#appLimitedUntil = 0
    this.#deliveredAt = now
    this.#firstSentAt = packet.sentAt
    sample.priorDelivered = packet.delivered
    sample.appLimited = packet.appLimited
    sample.rtt = packet.transmissions === 1 ? now - packet.sentAt : 0
    const interval = Math.max(packet.sentAt - packet.firstSentAt, now - packet.deliveredAt)
    sample.rate = interval > 0 && interval >= minRtt ? (this.#delivered - packet.delivered) / interval : 0
    return sample
  }
}

/** Milliseconds of sending that may leave at once: the runtimes' timers fire a millisecond late or more. */
const BURST_TIME = 2

/** Bytes that may always leave at once: ten packets, as many as any sender may start with (RFC 6928). */
const MIN_BURST = 10 * 1500

/**
 * Spreads packets over time at a given rate: a bucket that fills at that rate, up to a burst. Pacing keeps bursts out of the
 * small buffers on the way, of which a socket's receive buffer (208 KiB on Linux) is the smallest (RFC 9002, section 7.7; BBR
 * draft, section 5.6.2).
 */
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

  /** When a packet may leave again, in time of the clock: later than needed for one, so that a few leave together. */
  readyAt(now: number, rate: number): number {
    return now + Math.max(0, Math.min(MIN_BURST, rate) - this.#allowance) / rate
  }
}
