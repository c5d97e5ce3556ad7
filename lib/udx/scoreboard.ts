import { type OutgoingPacket, PacketList } from './outgoing.ts'
import { FLAG_SACK, type Header, readSacks, SeqRing, seqAdd, seqBefore, seqDiff, seqDistance } from './packet.ts'

/** Window that is assumed before the peer has named one, in bytes, as in the addon. */
const INITIAL_WINDOW = 4 * 1024 * 1024

/**
 * Which packets are under way: all that are numbered and not acknowledged, each either in flight or lost and to be sent again
 * (the scoreboard of RFC 6675, section 4, in RACK's order of sending).
 */
export class Scoreboard {
  /** In the order of their last transmission. */
  readonly flight = new PacketList()
  /** In the order in which they were found lost. */
  readonly lost = new PacketList()
  /** Number of the next packet. */
  next = 0
  /** Packets that have been acknowledged ahead of a hole. */
  sacked = 0
  /** Packets under way, by number. */
  readonly #packets = new SeqRing<OutgoingPacket>()
  #unacked = 0

  /** Whether everything that has been sent is acknowledged. */
  get idle(): boolean {
    return this.#unacked === this.next
  }

  /** Bytes that the peer may have to make room for. */
  get outstanding(): number {
    return this.flight.bytes + this.lost.bytes
  }

  /** The oldest packet that is not acknowledged. */
  get oldest(): OutgoingPacket | undefined {
    return this.#packets.get(this.#unacked)
  }

  /** Sets the number of the first packet. To be called before that. */
  startAt(seq: number): void {
    this.next = seq
    this.#unacked = seq
  }

  /** Adds the packet with the number {@link next}, which is in no list yet. */
  add(packet: OutgoingPacket): void {
    this.#packets.set(packet.seq, packet, this.#unacked)
    this.next = seqAdd(this.next, 1)
  }

  /** Whether an acknowledgement can be true: it is not if it covers what was never sent. */
  admits(ack: number): boolean {
    return !seqBefore(this.next, ack)
  }

  /** Whether an acknowledgement is older than one that has been handled. */
  isOld(ack: number): boolean {
    return seqBefore(ack, this.#unacked)
  }

  /** Removes the packets that `packet` acknowledges, and calls `delivered` with each. */
  acknowledge(header: Readonly<Header>, packet: Uint8Array, delivered: (packet: OutgoingPacket) => void): void {
    if ((header.flags & FLAG_SACK) !== 0) this.#acknowledgeRanges(header, packet, delivered)
    for (let left = seqDiff(header.ack, this.#unacked); left > 0; left--) {
      if (!this.#remove(this.#unacked, delivered)) this.sacked--
      this.#unacked = seqAdd(this.#unacked, 1)
    }
  }

  /** Moves a packet from the flight to the lost ones. */
  lose(packet: OutgoingPacket): void {
    this.flight.remove(packet)
    this.lost.append(packet)
  }

  /** Moves a packet to the end of the flight. */
  fly(packet: OutgoingPacket): void {
    packet.list?.remove(packet)
    this.flight.append(packet)
  }

  clear(): void {
    this.#packets.clear()
  }

  /**
   * Honest ranges ascend and lie within what is under way. All others are ignored: numbers wrap, so a range that lies elsewhere
   * may span billions of them. What a packet costs is bounded by the numbers under way, whatever it claims.
   */
  #acknowledgeRanges(header: Readonly<Header>, packet: Uint8Array, delivered: (packet: OutgoingPacket) => void): void {
    const underWay = seqDistance(this.#unacked, this.next)
    let handled = 0
    readSacks(packet, header, (start, end) => {
      const [first, last] = [seqDistance(this.#unacked, start), seqDistance(this.#unacked, end)]
      if (first < handled || first >= last || last > underWay) return
      for (let seq = start; seq !== end; seq = seqAdd(seq, 1)) if (this.#remove(seq, delivered)) this.sacked++
      handled = last
    })
  }

  #remove(seq: number, delivered: (packet: OutgoingPacket) => void): boolean {
    const packet = this.#packets.get(seq)
    if (packet === undefined) return false
    this.#packets.delete(seq)
    packet.list?.remove(packet)
    delivered(packet)
    return true
  }
}

/** The window that the peer offers. */
export class PeerWindow {
  /** Bytes that may be outstanding. */
  size = INITIAL_WINDOW
  #seq = 0
  #ack: number | undefined

  /**
   * Takes the window from a packet, if none that was sent later has been seen (RFC 9293, section 3.10.7.4: SND.WL1 and SND.WL2).
   *
   * @returns whether the window has become larger
   */
  update(header: Readonly<Header>): boolean {
    const newer = seqDiff(header.seq, this.#seq)
    if (this.#ack !== undefined && (newer < 0 || (newer === 0 && seqBefore(header.ack, this.#ack)))) return false
    const opened = header.rwnd > this.size
    this.size = header.rwnd
    this.#seq = header.seq
    this.#ack = header.ack
    return opened
  }
}
