import { withoutPadding } from './packet.ts'
import type { Route } from './route.ts'

/**
 * A numbered packet that has been sent and not yet acknowledged, with what loss detection and rate measurement remember about
 * its last transmission. It is in one list at a time, linked by `prev` and `next`: moving it costs no allocation.
 */
export class OutgoingPacket {
  readonly seq: number
  /** The whole packet as it is sent. */
  bytes: Uint8Array
  /** Where it went first. Retransmissions go there too, even if the stream has changed its remote since. */
  readonly route: Route
  /** Bytes of the stream before this packet. */
  readonly streamOffset: number
  /** Zero bytes between header and payload if it is an MTU probe, otherwise 0. */
  padding: number

  transmissions = 0
  sentAt = 0
  /** State of the rate measurement when it was sent; see rate.ts. */
  delivered = 0
  deliveredAt = 0
  firstSentAt = 0
  appLimited = false

  list: PacketList | undefined = undefined
  prev: OutgoingPacket | undefined = undefined
  next: OutgoingPacket | undefined = undefined

  constructor(seq: number, bytes: Uint8Array, route: Route, streamOffset: number, padding: number) {
    this.seq = seq
    this.bytes = bytes
    this.route = route
    this.streamOffset = streamOffset
    this.padding = padding
  }

  get size(): number {
    return this.bytes.length
  }

  /** Makes a probe an ordinary packet, in a buffer of its own: the old one may not have left yet. */
  unpad(): void {
    this.bytes = withoutPadding(this.bytes, this.padding)
    this.padding = 0
  }
}

/** A list of packets in the order of their last transmission (or loss), with removal from the middle. */
export class PacketList {
  first: OutgoingPacket | undefined = undefined
  last: OutgoingPacket | undefined = undefined
  /** Bytes of all its packets. */
  bytes = 0
  length = 0

  append(packet: OutgoingPacket): void {
    packet.list = this
    packet.prev = this.last
    packet.next = undefined
    if (this.last === undefined) this.first = packet
    else this.last.next = packet
    this.last = packet
    this.bytes += packet.size
    this.length++
  }

  remove(packet: OutgoingPacket): void {
    if (packet.list !== this) return
    if (packet.prev === undefined) this.first = packet.next
    else packet.prev.next = packet.next
    if (packet.next === undefined) this.last = packet.prev
    else packet.next.prev = packet.prev
    packet.list = undefined
    packet.prev = undefined
    packet.next = undefined
    this.bytes -= packet.size
    this.length--
  }
}
