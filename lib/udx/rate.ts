import type { OutgoingPacket } from './outgoing.ts'

/** What the acknowledgements of one turn say about the path. */
export interface RateSample {
  /** Bytes per millisecond; 0 if nothing can be said. */
  rate: number
  /** The sender had less to send than the path would have carried: the rate is a lower bound. */
  appLimited: boolean
  /** Bytes delivered when the newest acknowledged packet was sent: tells the rounds apart. */
  priorDelivered: number
  /** Bytes newly acknowledged. */
  acked: number
  /** Round-trip time of the newest acknowledged packet in milliseconds; 0 if there is none, or if it was sent twice. */
  rtt: number
}

/**
 * Delivery rate estimation after draft-cheng-iccrg-delivery-rate-estimation-02: each packet carries a snapshot of what was
 * delivered when it left; on its acknowledgement the difference over the longer of the send and the ack interval is the rate.
 */
export class RateSampler {
  /** Bytes acknowledged so far. */
  delivered = 0
  #deliveredAt = 0
  #firstSentAt = 0
  /** `delivered` at which the last packet that was sent for want of data is acknowledged; 0 if there is none. */
  #appLimitedUntil = 0

  #acked = 0
  #newest: OutgoingPacket | undefined
  readonly #sample: RateSample = { rate: 0, appLimited: false, priorDelivered: 0, acked: 0, rtt: 0 }

  /** Notes that a packet leaves. `idle`: nothing was in flight before it. */
  onSent(packet: OutgoingPacket, now: number, idle: boolean): void {
    if (idle) {
      this.#firstSentAt = now
      this.#deliveredAt = now
    }
    packet.delivered = this.delivered
    packet.deliveredAt = this.#deliveredAt
    packet.firstSentAt = this.#firstSentAt
    packet.appLimited = this.#appLimitedUntil !== 0
  }

  /** The sender has nothing more to send though it might. `inFlight` in bytes. */
  onAppLimited(inFlight: number): void {
    this.#appLimitedUntil = Math.max(1, this.delivered + inFlight)
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

  /** Ends the sample. `minRtt`: intervals below it are a burst of acknowledgements, not a rate. The result is reused. */
  take(now: number, minRtt: number): RateSample {
    const sample = this.#sample
    const packet = this.#newest
    sample.acked = this.#acked
    this.delivered += this.#acked
    this.#acked = 0
    this.#newest = undefined
    if (this.#appLimitedUntil !== 0 && this.delivered > this.#appLimitedUntil) this.#appLimitedUntil = 0
    if (packet === undefined) {
      sample.rate = 0
      sample.rtt = 0
      return sample
    }
    this.#deliveredAt = now
    this.#firstSentAt = packet.sentAt
    sample.priorDelivered = packet.delivered
    sample.appLimited = packet.appLimited
    sample.rtt = packet.transmissions === 1 ? now - packet.sentAt : 0
    const interval = Math.max(packet.sentAt - packet.firstSentAt, now - packet.deliveredAt)
    sample.rate = interval > 0 && interval >= minRtt ? (this.delivered - packet.delivered) / interval : 0
    return sample
  }
}
