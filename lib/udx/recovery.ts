import type { OutgoingPacket, PacketList } from './outgoing.ts'
import { GRANULARITY, type RoundTrip } from './rtt.ts'
import { seqBefore } from './seq.ts'

/** Packets delivered out of order before reordering is assumed no longer possible (RFC 8985, section 6.2.4; RFC 5681's three). */
const DUP_THRESHOLD = 3

/**
 * How long packets that were sent before a probe may still be acknowledged after the probe, in milliseconds: a peer that has
 * only been busy has all of them in its socket's buffer, and takes no longer than this to get through it.
 */
const CATCH_UP_TIME = 8

/**
 * RACK loss detection (RFC 8985): a packet is lost when one that was sent later has been delivered and the reordering window
 * has passed since. It counts time, not packets, so it sees lost retransmissions too.
 *
 * An acknowledgement that comes sooner after a retransmission than the shortest round trip may be for the original. The RFC
 * ignores it (section 6.2, step 2). Where the first round trips were long, because a peer was busy accepting many streams, that
 * leaves a lost flight to be repaired by one probe per packet; so here it counts, but {@link CATCH_UP_TIME} later.
 */
export class LossDetection {
  readonly #rtt: RoundTrip
  /** Send time and number of the most recently sent packet that has been delivered, and the round trip it took. */
  #sentAt = Number.NEGATIVE_INFINITY
  #seq = 0
  #latest = 0
  /** Send time of the last retransmission whose acknowledgement may be for the original, and when that came. */
  #doubtfulSentAt = Number.NEGATIVE_INFINITY
  #doubtfulAt = 0
  /** Highest number that has been delivered. */
  #highest: number | undefined
  #reordering = false

  constructor(rtt: RoundTrip) {
    this.#rtt = rtt
  }

  /** Whether packets of this path have been seen to overtake each other. */
  get reordering(): boolean {
    return this.#reordering
  }

  /** Notes a delivered packet. */
  onDelivered(packet: OutgoingPacket, now: number): void {
    const rtt = now - packet.sentAt
    if (packet.transmissions === 1) {
      if (this.#highest !== undefined && seqBefore(packet.seq, this.#highest)) this.#reordering = true
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
   * Calls `lose` with each packet of `flight` (in the order of sending) that is lost. It must take the packet out of the list.
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

  /** Forgets the path, after it has changed. */
  reset(): void {
    this.#reordering = false
  }

  #overtaken(packet: OutgoingPacket): boolean {
    return packet.sentAt < this.#sentAt || (packet.sentAt === this.#sentAt && seqBefore(packet.seq, this.#seq))
  }

  #window(sacked: number): number {
    if (!this.#reordering && sacked >= DUP_THRESHOLD) return 0
    const least = this.#rtt.minimum === Number.POSITIVE_INFINITY ? 0 : this.#rtt.minimum
    return Math.max(GRANULARITY, Math.min(least / 4, this.#rtt.smoothed))
  }
}
