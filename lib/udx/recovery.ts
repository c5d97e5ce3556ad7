import type { OutgoingPacket, PacketList } from './outgoing.ts'
import { seqBefore } from './packet.ts'

/**
 * Round-trip time in milliseconds before the first sample (RFC 9002, section 6.2.2). The first probe goes after one of it, not
 * after three: a needless probe costs one packet.
 */
const INITIAL_RTT = 333

/** Resolution of the timers of the three runtimes, in milliseconds. */
const GRANULARITY = 1

/**
 * How long a peer may delay an acknowledgement, in milliseconds. It acknowledges once per turn of its event loop, which usually
 * takes less than a millisecond; this allows for a garbage collection.
 */
const ACK_DELAY = 8

/** Packets delivered out of order from which on a missing one is lost, not late (RFC 8985, section 6.2.4; RFC 5681's three). */
const DUP_THRESHOLD = 3

/**
 * How long packets that were sent before a probe may still be acknowledged after the probe, in milliseconds: a peer that was
 * only busy has all of them in its socket's buffer, and gets through it in this time.
 */
const CATCH_UP_TIME = 8

/** Round-trip time and what follows from it, in milliseconds, smoothed as in RFC 6298, section 2. */
export class RoundTripTime {
  /** 0 before the first sample. */
  smoothed = 0
  variation = 0
  /** Smallest ever seen; infinity before the first sample. */
  minimum = Number.POSITIVE_INFINITY

  /** Takes a sample, of a packet that was sent only once: others are ambiguous (Karn's algorithm). */
  sample(rtt: number): void {
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
    this.minimum = Number.POSITIVE_INFINITY
  }

  /** How long to wait for an acknowledgement before probing (RFC 9002, section 6.2.1). */
  get probeTimeout(): number {
    if (this.smoothed === 0) return INITIAL_RTT
    return this.smoothed + Math.max(4 * this.variation, GRANULARITY) + ACK_DELAY
  }
}

/**
 * RACK loss detection (RFC 8985): a packet is lost when one that was sent later has been delivered and the reordering window
 * has passed since. It measures time and does not count packets, so it sees lost retransmissions too.
 *
 * An acknowledgement that follows a retransmission sooner than the shortest round trip may be for the original. The RFC
 * ignores it (section 6.2, step 2). Where the first round trips were long, because a peer was busy accepting many streams, a
 * lost flight would then be repaired by one probe per packet; so here it counts, but {@link CATCH_UP_TIME} later.
 */
export class LossDetection {
  /** Whether packets of this path have been seen to overtake each other. */
  reordering = false
  readonly #rtt: RoundTripTime
  /** Send time and number of the most recently sent packet that has been delivered, and its round trip. */
  #sentAt = Number.NEGATIVE_INFINITY
  #seq = 0
  #latest = 0
  /** Send time of the last retransmission whose acknowledgement may be for the original, and when that came. */
  #doubtfulSentAt = Number.NEGATIVE_INFINITY
  #doubtfulAt = 0
  /** Highest number that has been delivered. */
  #highest: number | undefined

  constructor(rtt: RoundTripTime) {
    this.#rtt = rtt
  }

  /** Notes a delivered packet. */
  onDelivered(packet: OutgoingPacket, now: number): void {
    const rtt = now - packet.sentAt
    if (packet.transmissions === 1) {
      if (this.#highest !== undefined && seqBefore(packet.seq, this.#highest)) this.reordering = true
    } else if (rtt < this.#rtt.minimum) {
      this.#doubtfulSentAt = packet.sentAt
      this.#doubtfulAt = now
      return
    }
    if (this.#highest === undefined || seqBefore(this.#highest, packet.seq)) this.#highest = packet.seq
    if (packet.sentAt > this.#sentAt || (packet.sentAt === this.#sentAt && seqBefore(this.#seq, packet.seq))) {
      this.#sentAt = packet.sentAt
      this.#seq = packet.seq
      this.#latest = rtt
    }
  }

  /**
   * Calls `lose` with each lost packet of `flight`, which is in the order of sending. `lose` must take it out of the list.
   *
   * @param sacked packets that have been delivered ahead of a hole
   * @returns when to look again, infinity if there is nothing to wait for
   */
  detect(flight: PacketList, sacked: number, now: number, lose: (packet: OutgoingPacket) => void): number {
    const patience = this.#latest + this.#window(sacked)
    let packet = flight.first
    while (packet !== undefined) {
      const next: OutgoingPacket | undefined = packet.next
      const certain = this.#overtaken(packet)
      if (!certain && packet.sentAt >= this.#doubtfulSentAt) break
      const deadline = certain ? packet.sentAt + patience : this.#doubtfulAt + CATCH_UP_TIME
      if (deadline > now) return deadline
      lose(packet)
      packet = next
    }
    return Number.POSITIVE_INFINITY
  }

  #overtaken(packet: OutgoingPacket): boolean {
    return packet.sentAt < this.#sentAt || (packet.sentAt === this.#sentAt && seqBefore(packet.seq, this.#seq))
  }

  #window(sacked: number): number {
    if (!this.reordering && sacked >= DUP_THRESHOLD) return 0
    const least = this.#rtt.minimum === Number.POSITIVE_INFINITY ? 0 : this.#rtt.minimum
    return Math.max(GRANULARITY, Math.min(least / 4, this.#rtt.smoothed))
  }
}
