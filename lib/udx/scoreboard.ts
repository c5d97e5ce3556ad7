import { type OutgoingPacket, PacketList, PacketTable } from './outgoing.ts'
import { FLAG_SACK, type Header, readSacks } from './packet.ts'
import { seqAdd, seqBefore, seqDiff } from './seq.ts'

/**
 * Which packets are under way: all that are numbered and not acknowledged, each either in flight or lost and to be sent again
 * (the scoreboard of RFC 6675, section 4, with RACK's order of sending).
 */
export class Scoreboard {
  /** In the order of their last transmission. */
  readonly flight = new PacketList()
  /** In the order in which they were found lost. */
  readonly lost = new PacketList()
  readonly #table = new PacketTable()
  #unacked = 0
  #next = 0
  #sacked = 0

  /** Number of the next packet. */
  get next(): number {
    return this.#next
  }

  /** Whether everything that has been sent is acknowledged. */
  get idle(): boolean {
    return this.#unacked === this.#next
  }

  /** Packets that have been acknowledged ahead of a hole. */
  get sacked(): number {
    return this.#sacked
  }

  /** Bytes that the peer may have to make room for. */
  get outstanding(): number {
    return this.flight.bytes + this.lost.bytes
  }

  /** The oldest packet that is not acknowledged. */
  get oldest(): OutgoingPacket | undefined {
    return this.#table.get(this.#unacked)
  }

  /** The number to start with. To be called before the first packet. */
  startAt(seq: number): void {
    this.#next = seq >>> 0
    this.#unacked = this.#next
  }

  /** Takes in the packet with the number {@link next}. It is in no list yet. */
  add(packet: OutgoingPacket): void {
    this.#table.add(packet, this.#unacked)
    this.#next = seqAdd(this.#next, 1)
  }

  /** Whether an acknowledgement can be true, that is, not of what was never sent. */
  admits(ack: number): boolean {
    return !seqBefore(this.#next, ack)
  }

  /** Whether it is older than one that has been handled. */
  isOld(ack: number): boolean {
    return seqBefore(ack, this.#unacked)
  }

  /** Takes out what a packet acknowledges, and calls `delivered` with each. */
  acknowledge(header: Readonly<Header>, packet: Buffer, delivered: (packet: OutgoingPacket) => void): void {
    if ((header.flags & FLAG_SACK) !== 0) {
      readSacks(packet, header, (start, end) => {
        if (seqBefore(this.#next, end)) return
        for (let seq = this.isOld(start) ? this.#unacked : start; seqBefore(seq, end); seq = seqAdd(seq, 1)) {
          if (this.#remove(seq, delivered)) this.#sacked++
        }
      })
    }
    for (let left = seqDiff(header.ack, this.#unacked); left > 0; left--) {
      if (!this.#remove(this.#unacked, delivered)) this.#sacked--
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
    this.#table.clear()
  }

  #remove(seq: number, delivered: (packet: OutgoingPacket) => void): boolean {
    const packet = this.#table.get(seq)
    if (packet === undefined) return false
    this.#table.remove(packet)
    packet.list?.remove(packet)
    delivered(packet)
    return true
  }
}
